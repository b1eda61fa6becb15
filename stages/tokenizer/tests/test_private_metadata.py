"""What cameras and tools write into images (places, names, prompts) does not get into token directories."""

from lavit_tokenizer.config import TokenizeConfig
from lavit_tokenizer.tokenize_images import tokenize_images
from PIL import Image
from PIL.PngImagePlugin import PngInfo

SECRET = "52.5200N-13.4050E"
DESCRIPTION, GPS, GPS_AREA = 0x010E, 0x8825, 28


def test_metadata_of_images_is_not_copied(model, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    exif = Image.Exif()
    exif[DESCRIPTION] = SECRET
    exif.get_ifd(GPS)[GPS_AREA] = SECRET.encode()
    Image.new("RGB", (16, 16), "red").save(folder / "a.jpg", exif=exif, comment=SECRET.encode())
    text = PngInfo()
    text.add_text("prompt", SECRET)
    Image.new("RGB", (16, 16), "red").save(folder / "b.png", pnginfo=text, exif=exif)
    (folder / "c.jpg").write_bytes((folder / "a.jpg").read_bytes()[:300])  # its error row says nothing of it either
    assert all(SECRET.encode() in (folder / name).read_bytes() for name in ("a.jpg", "b.png", "c.jpg"))
    config = TokenizeConfig.model_validate({"workers": 0, "max_error_rate": 0.5, "features": True})
    assert tokenize_images(folder, model, tmp_path / "tokens", config, device="cpu", quiet=True)["errors"] == 1
    files = [file for file in (tmp_path / "tokens").rglob("*") if file.is_file()]
    assert len(files) > 5
    assert not [file.name for file in files if SECRET.encode() in file.read_bytes()]
