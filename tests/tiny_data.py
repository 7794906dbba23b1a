"""The same images in every kind of data set."""

from __future__ import annotations

import csv
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tiny_runs import make_images

Images = dict[str, list[Path]]
"""The files of each split, in the order of a folder."""


def make_files(root: Path) -> Images:
    """A folder per class, in splits: boots and dresses, four and three to train on, one and two for validation."""
    for i, (name, count) in enumerate({"train/boot": 4, "train/dress": 3, "val/boot": 1, "val/dress": 2}.items()):
        make_images(root / name, count, seed=i)
    return {split: sorted((root / split).rglob("*.png")) for split in ("train", "val")}


def as_folder(images: Images, place: Path) -> str:
    return str(images["train"][0].parents[2])


def as_table(images: Images, place: Path) -> str:
    """One table, with a column that tells the splits apart."""
    rows = [f"{path},{path.parent.name},{split}\n" for split, paths in images.items() for path in paths]
    place.mkdir()
    (place / "labels.csv").write_text("file,label,split\n" + "".join(rows))
    return str(place / "labels.csv")


def as_tables(images: Images, place: Path) -> str:
    """A table for each split."""
    place.mkdir()
    for split, paths in images.items():
        rows = [f"{path},{path.parent.name}\n" for path in paths]
        (place / f"{split}.csv").write_text("file,label\n" + "".join(rows))
    return str(place)


def as_shards(images: Images, place: Path) -> str:
    """Shards of three images."""
    place.mkdir()
    for split, paths in images.items():
        for i in range(0, len(paths), 3):
            files = {}
            for path in paths[i : i + 3]:
                key = f"{path.parent.name}/{path.stem}"
                files |= {f"{key}.png": path.read_bytes(), f"{key}.cls": path.parent.name.encode()}
            write_shard(place / f"{split}-{i:03d}.tar", files)
    return str(place)


def as_huggingface(images: Images, place: Path) -> str:
    """What ``save_to_disk`` writes."""
    import datasets

    datasets.disable_progress_bars()
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["boot", "dress"]))
    splits = {}
    for split, paths in images.items():
        files = [{"bytes": path.read_bytes(), "path": None} for path in paths]
        columns = {"image": files, "label": [path.parent.name for path in paths]}
        splits[split] = datasets.Dataset.from_dict(columns, features=features)
    datasets.DatasetDict(splits).save_to_disk(place)
    return f"hf:{place}"


Captions = dict[str, list[str]]
"""Captions of images by their names of class and file without ending, such as ``boot/0``."""


def caption_key(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def captioned_folder(images: Images, captions: Captions, place: Path) -> str:
    """A text file beside each image, with its first caption."""
    for path in (path for paths in images.values() for path in paths):
        if texts := captions[caption_key(path)]:
            path.with_suffix(".txt").write_text(texts[0], encoding="utf-8")
    return as_folder(images, place)


def captioned_csv(images: Images, captions: Captions, place: Path, ending: str = ".csv") -> str:
    """Two columns of captions."""
    place.mkdir()
    with (place / f"all{ending}").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, delimiter="\t" if ending == ".tsv" else ",")
        table.writerow(["file", "label", "caption", "caption_2", "split"])
        for split, paths in images.items():
            for path in paths:
                texts = [*captions[caption_key(path)], "", ""][:2]
                table.writerow([path, path.parent.name, *texts, split])
    return str(place / f"all{ending}")


def captioned_tsv(images: Images, captions: Captions, place: Path) -> str:
    return captioned_csv(images, captions, place, ".tsv")


def captioned_json_lines(images: Images, captions: Captions, place: Path) -> str:
    """A list of captions on each line, in a file for each split."""
    place.mkdir()
    for split, paths in images.items():
        rows = [
            {"file": str(path), "label": path.parent.name, "captions": captions[caption_key(path)]} for path in paths
        ]
        (place / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(place)


def captioned_shards(images: Images, captions: Captions, place: Path) -> str:
    """Captions in the .txt of training images, and in the .json of others."""
    place.mkdir()
    for split, paths in images.items():
        files = {}
        for path in paths:
            key, texts = caption_key(path), captions[caption_key(path)]
            files |= {f"{key}.png": path.read_bytes(), f"{key}.cls": path.parent.name.encode()}
            if split == "train":
                files |= {f"{key}.txt": texts[0].encode()} if texts else {}
            else:
                files |= {f"{key}.json": json.dumps({"caption": texts, "width": 3}).encode()}
        write_shard(place / f"{split}-0.tar", files)
    return str(place)


def captioned_huggingface(images: Images, captions: Captions, place: Path) -> str:
    import datasets

    datasets.disable_progress_bars()
    types = {"image": datasets.Image(), "captions": datasets.Sequence(datasets.Value("string"))}
    features = datasets.Features(types | {"label": datasets.ClassLabel(names=["boot", "dress"])})
    splits = {}
    for split, paths in images.items():
        columns = {
            "image": [{"bytes": path.read_bytes(), "path": None} for path in paths],
            "captions": [captions[caption_key(path)] for path in paths],
            "label": [path.parent.name for path in paths],
        }
        splits[split] = datasets.Dataset.from_dict(columns, features=features)
    datasets.DatasetDict(splits).save_to_disk(place)
    return f"hf:{place}"


CAPTIONED: dict[str, Callable[[Images, Captions, Path], str]] = {
    "folder": captioned_folder,
    "csv": captioned_csv,
    "tsv": captioned_tsv,
    "json lines": captioned_json_lines,
    "shards": captioned_shards,
    "huggingface": captioned_huggingface,
}
"""Each writes images and captions to a new folder, if need be, and gives the name of the data set."""

KINDS: dict[str, Callable[[Images, Path], str]] = {
    "folder": as_folder,
    "table": as_table,
    "tables": as_tables,
    "shards": as_shards,
    "huggingface": as_huggingface,
}
"""Each writes the images to a new folder, if need be, and gives the name of the data set."""


def write_shard(path: Path, files: Mapping[str, bytes]) -> Path:
    """A .tar file of some files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path
