"""An evaluation with one extractor: compute the features of galleries in a folder, then the metrics.

The computation of features is divided among all processes, and can be interrupted and resumed. The main process
computes the metrics.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nextscale.evaluation.agreement import Agreement
from nextscale.evaluation.extractors import probe
from nextscale.evaluation.features import FeatureExtractor
from nextscale.evaluation.frechet import frechet_distance
from nextscale.evaluation.gallery import Gallery
from nextscale.evaluation.memorisation import Labelled, Memorisation, Pair, memorisation
from nextscale.evaluation.precision_recall import precision_recall
from nextscale.evaluation.reconstruction import Reconstruction
from nextscale.evaluation.reference import UNKNOWN, Reference
from nextscale.evaluation.report import Report
from nextscale.evaluation.saving import Saver
from nextscale.evaluation.store import ALL_FEATURES, FeatureStore
from nextscale.evaluation.summary import Kept, Summary, summarise
from nextscale.runtime.progress import Progress

KEPT_SAMPLED = 50_000
"""Maximum number of sampled images for precision and recall, as in published metrics."""
FEW = 5
"""Precision, recall, density and coverage need more images than this."""
SAMPLED, SAMPLED_BEFORE = "sampled", "drawn"
"""The folder with the features of the measured images, and its name before 30 November 2026."""


@dataclass(frozen=True)
class Session:
    """The settings of an evaluation.

    Attributes:
        folder: folder of the features, with a sub-folder for each gallery.
        extractor: computes the features.
        device: device of the extractor and of the sums for the metrics.
        batch_size: images per call of the extractor.
        seed: seed for shuffling images for the Inception Score, and for choosing the kept features.
    """

    folder: Path
    extractor: FeatureExtractor
    device: torch.device
    batch_size: int = 50
    seed: int = 0

    def open(self, name: str, gallery: Gallery, kinds: Sequence[str] = ALL_FEATURES) -> FeatureStore:
        """Return the store of a gallery's features, in the sub-folder ``name``. `fill` computes the missing ones.

        Raises:
            InputError: the folder has features of another gallery or extractor, or the extractor does not accept images
                of this size.
        """
        probe(self.extractor, gallery.size, self.device)
        return FeatureStore(self.folder / name, gallery, self.extractor, kinds)

    def open_measured(self, gallery: Gallery) -> FeatureStore:
        """Return the store of the features of the measured images."""
        before = self.folder / SAMPLED_BEFORE
        return self.open(SAMPLED_BEFORE if before.is_dir() else SAMPLED, gallery)

    def fill(self, store: FeatureStore, what: str, saver: Saver | None = None) -> FeatureStore:
        """Compute the missing features. All processes must call this. ``what`` is the start of the progress lines."""
        return store.fill(self.batch_size, self.device, lambda count: Progress(what, count), saver)

    def summarise(self, store: FeatureStore, keep: int = KEPT_SAMPLED) -> Summary:
        """Collect the statistics of a complete store, with the features of at most ``keep`` images."""
        return summarise(store, self.device, self.seed, keep)

    def measure(self, sampled: Summary, reference: Reference | None) -> dict[str, Any]:
        """Compute the metrics, as fields of a `Report`. Its ``warnings`` name the metrics that are skipped."""
        fields: dict[str, Any] = {"inception_score": sampled.scores, "agreement": self._agreement(sampled, reference)}
        warnings: list[str | None] = []
        if sampled.scores is None and sampled.spatial is None:
            warnings.append(
                f"{self.extractor.name} returns pool features only, so the Inception Score (needs probabilities), the "
                "label agreement (needs probabilities) and sFID (needs spatial features) are skipped"
            )
        if reference is not None and reference.gaussian is not None:
            warnings += [sampled.moments.warning(), reference.warning()]
            fields["fid"] = frechet_distance(sampled.moments.gaussian(), reference.gaussian)
            if sampled.spatial and reference.spatial:
                fields["sfid"] = frechet_distance(sampled.spatial.gaussian(), reference.spatial)
            if reference.features is None:
                warnings.append(
                    f"{reference.name} has no features of single images, so precision and recall are skipped"
                )
            elif min(len(reference.features), len(sampled.kept)) <= FEW:
                warnings.append(f"precision and recall are skipped: they need more than {FEW} images of both kinds")
            else:
                real = reference.features.float().to(self.device)
                fields["precision_recall"] = precision_recall(real, sampled.kept)
        return fields | {"warnings": tuple(warning for warning in warnings if warning)}

    def report(
        self,
        gallery: Gallery,
        sampled: Summary,
        reference: Reference | None,
        seconds: float,
        settings: Mapping[str, Any],
        memorisation: Memorisation | None = None,
        reconstruction: Reconstruction | None = None,
    ) -> Report:
        """Compute the metrics, and return them with all inputs that they depend on.

        Args:
            seconds: duration of the command so far.
            settings: inputs of the metrics in addition to ``gallery.made_from``.
        """
        start = time.monotonic()
        metrics = self.measure(sampled, reference)
        metrics["warnings"] = (*getattr(gallery, "skipped", ()), *metrics["warnings"])
        origin = reference.origin if reference else None
        stored = reference.stored if reference else None
        return Report(
            images=sampled.count,
            size=gallery.size,
            extractor=self.extractor.name,
            fingerprint=self.extractor.fingerprint,
            reference=reference.name if reference else None,
            reference_images=origin.images if origin else stored[0] if stored else None,
            seed=self.seed,
            reference_crop=origin.crop if origin and origin.crop != UNKNOWN else None,
            settings={**gallery.made_from, "batch_size": self.batch_size, "device": str(self.device), **settings},
            seconds_of_last_call=seconds + time.monotonic() - start,
            memorisation=memorisation,
            reconstruction=reconstruction,
            **metrics,
        )

    def _agreement(self, sampled: Summary, reference: Reference | None) -> Agreement | None:
        """Return the label agreement, with that of the reference's images or of the classifier's validation images."""
        if sampled.agreement is None:
            return None
        if reference and reference.origin and reference.origin.agreement is not None:
            return replace(sampled.agreement, real=reference.origin.agreement, real_images="the reference's images")
        accuracy = getattr(self.extractor, "accuracy", None)
        return replace(sampled.agreement, real=accuracy, real_images="the classifier's validation images")

    def memorised(
        self,
        sampled: Summary,
        names: Sequence[str],
        training: FeatureStore,
        held_out: FeatureStore,
        control: FeatureStore,
    ) -> Memorisation:
        """Measure how close sampled images are to training images. Pairs are numbers in the galleries.

        Args:
            names: class names of the sampled images.
            control: training images in views that are not in ``training``.
        """
        known = tuple(held_out.gallery.class_names)
        training.count()  # raises InputError if there are none
        found = memorisation(
            Labelled(sampled.kept.to(self.device), renumbered(sampled.kept_labels, names, known)),
            training.pool(),
            self._labelled(held_out, known),
            self._labelled(control, known),
            known,
            seed=self.seed,
        )
        numbers = training.numbers()
        pairs = (Pair(int(sampled.kept_indices[p.sampled]), int(numbers[p.training]), p.distance) for p in found.pairs)
        return replace(found, pairs=tuple(pairs))

    def _labelled(self, store: FeatureStore, known: Sequence[str]) -> Labelled:
        kept = Kept(store.count(), self.seed)
        for shard in store:
            kept.add(shard)
        features, _, labels = kept.result()
        return Labelled(features, renumbered(labels, store.gallery.class_names, known))


def renumbered(labels: Tensor, names: Sequence[str], known: Sequence[str]) -> Tensor:
    """Convert indices into ``names`` to indices of the same names in ``known``; -1 for a missing name."""
    place = torch.tensor([*(known.index(name) if name in known else -1 for name in names), -1])
    return place[labels]
