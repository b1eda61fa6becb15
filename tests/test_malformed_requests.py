"""Requests that the server's own OpenAPI schema forbids, to a real server: client's errors, and nothing piles up.

They need `pip install schemathesis`; LAVIT_MALFORMED_REQUESTS sets their number. Others, of our own making, are in
`stages/serve/tests/test_malformed.py`.
"""

import collections
import os
from pathlib import Path

import httpx2
import psutil
import pytest
from commandline import Mini
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from test_serve import serving

pytestmark = pytest.mark.slow

REQUESTS = int(os.environ.get("LAVIT_MALFORMED_REQUESTS", "60"))
MOST_GROWTH_MB = 48
"""Resident memory that a server may gain after the first fifth of the requests, by its allocator's doing."""


def test_requests_that_the_schema_forbids(mini: Mini, tmp_path: Path) -> None:
    schemathesis = pytest.importorskip("schemathesis", reason="pip install schemathesis")
    requests = pytest.importorskip("requests")
    statuses: collections.Counter[int] = collections.Counter()
    resident: list[float] = []
    ours = (str(mini.model), str(Path.home()), str(Path(__file__).parents[1]), "site-packages", "Traceback", 'File "')

    with serving(mini.model, tmp_path / "log", "--time-limit", "60") as server, httpx2.Client(timeout=120) as client:
        process = psutil.Process(server.process.pid)
        schema = schemathesis.openapi.from_dict(client.get(f"{server.url}/openapi.json").json())
        posted = [one.ok() for one in schema.get_all_operations() if one.ok().method.lower() == "post"]
        assert len(posted) == 5
        negative = schemathesis.GenerationMode.NEGATIVE
        cases = st.one_of([operation.as_strategy(generation_mode=negative) for operation in posted])

        @settings(
            max_examples=REQUESTS,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=cases)
        def send(case) -> None:
            made = requests.Request(**case.as_transport_kwargs(base_url=server.url)).prepare()
            answer = client.request(made.method, made.url, content=made.body or b"", headers=dict(made.headers))
            statuses[answer.status_code] += 1
            assert answer.status_code < 500, answer.text
            assert not [text for text in ours if text in answer.text]
            if answer.status_code >= 400:
                assert answer.json()["error"]["message"]
            resident.append(process.memory_info().rss / 1e6)

        send()
        assert client.get(f"{server.url}/ready").status_code == 200
        assert server.metric("lavit_requests_in_hand") == 0
    assert sum(statuses.values()) >= REQUESTS
    assert sum(count for status, count in statuses.items() if status >= 400) > 0.8 * REQUESTS
    first, last = resident[len(resident) // 5], resident[-1]
    print(f"{len(resident)} requests: {dict(statuses)}; resident MB after a fifth {first:.0f}, at the end {last:.0f}")
    assert last - first < MOST_GROWTH_MB
