import collections
import random

from lavit_shapes.names import COLOURS, SHAPES
from lavit_shapes.phrases import captions, questions
from lavit_shapes.sample_scene import sample_scene
from lavit_shapes.scenes import Scene
from lavit_shapes.style import HELDOUT_COMBINATIONS


def scenes(count: int, *, unseen: bool = False, split: str = "train") -> list[Scene]:
    return [sample_scene(3, split, index, unseen=unseen) for index in range(count)]


def test_train_never_shows_or_asks_about_heldout_combinations():
    forbidden = {f"{colour} {shape}" for colour, shape in HELDOUT_COMBINATIONS}
    seen = set()
    for scene in scenes(3000):
        said = captions(scene) + [question for _, question, _ in questions(scene, random.Random(0))]
        assert not any(name in text for name in forbidden for text in said)
        seen |= {(thing.colour, thing.shape) for thing in scene.objects}
    assert len(seen) == len(COLOURS) * len(SHAPES) - len(forbidden)


def blind_score(asked: list[tuple[str, str]]) -> float:
    """Return the share of answers right for one who knows each question's commonest answer, and no image."""
    by_question: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for question, answer in asked:
        by_question[question][answer] += 1
    return sum(max(counts.values()) for counts in by_question.values()) / len(asked)


def test_the_blind_gain_little_from_priors():
    asked = collections.defaultdict(list)
    for index, scene in enumerate(scenes(6000)):
        found = questions(scene, random.Random(index))
        assert len({kind for kind, _, _ in found}) == len(found)
        for kind, question, answer in found:
            asked[kind].append((question, answer))
    # By kind: the chance of guessing, and a margin for the commonest answer among few questions of a kind.
    chance = {"colour": 1 / 5, "shape": 1 / 2.5, "size": 1 / 2, "count": 1 / 2, "exist": 1 / 2}
    chance |= {"position": 1 / 4, "relation": 1 / 4, "two_hop": 0.4}
    for kind, share in chance.items():
        assert blind_score(asked[kind]) < share + 0.08, kind
    everything = [pair for pairs in asked.values() for pair in pairs]
    assert blind_score(everything) < 0.42


def test_answers_are_true():
    for index, scene in enumerate(scenes(1500) + scenes(500, unseen=True)):
        things = {thing.shape: thing for thing in scene.objects} | {thing.colour: thing for thing in scene.objects}
        present = {f"{thing.colour} {thing.shape}" for thing in scene.objects}
        for kind, question, answer in questions(scene, random.Random(index)):
            words = question.rstrip("?").split()
            named = [things[word] for word in words if word in things]
            if kind in ("colour", "shape", "size"):
                assert answer == getattr(named[0], kind)
            elif kind == "count":
                assert answer == ("one", "two")[len(scene.objects) - 1]
            elif kind == "exist":
                assert (answer == "yes") == (" ".join(words[-2:]) in present)
                near = [set(words[-2:]) & set(name.split()) for name in present]
                assert any(near)
            elif kind == "position":
                assert answer == scene.place
            elif kind == "relation":
                one, two = named
                found = {"left": one.x < two.x, "right": one.x > two.x, "above": one.y < two.y, "below": one.y > two.y}
                assert found[answer]
            else:
                other = next(thing for thing in scene.objects if thing is not named[0])
                assert answer in (other.colour, other.shape)
                side = next(word for word in words if word in ("left", "right", "above", "below"))
                beside = {"left": other.x < named[0].x, "right": other.x > named[0].x}
                beside |= {"above": other.y < named[0].y, "below": other.y > named[0].y}
                assert beside[side]


def test_articles_and_canonical_prompts():
    texts = [text for scene in scenes(500) for text in captions(scene)]
    assert not any(" a orange" in f" {text}" or "None" in text or "  " in text for text in texts)
    prompts = {captions(scene)[0] for scene in scenes(500)}
    assert all(not any(size in prompt for size in ("small", "large")) for prompt in prompts)
    assert any(prompt.startswith("an orange") and "to the left of" in prompt for prompt in prompts)
