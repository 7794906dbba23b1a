"""A folder in which galleries are looked at by one extractor, and measured against each other.

Looking is shared out among all processes, and goes on where it stopped; measuring is done by the main one.
"""

from __future__ import annotations

from collections.abc import Sequence
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
from nextscale.evaluation.reference import Reference
from nextscale.evaluation.saving import Saver
from nextscale.evaluation.store import ALL_FEATURES, FeatureStore
from nextscale.evaluation.summary import Kept, Summary, summarise
from nextscale.runtime.progress import Progress

KEPT_DRAWN = 50_000
"""Drawn images whose features are kept for precision and recall: all of those of published figures."""
FEW = 5
"""Precision, recall, density and coverage need more images than this."""


@dataclass(frozen=True)
class Session:
    """
    Attributes:
        folder: where features are kept, each gallery's in a folder of its own.
        device: of the extractor, and of the sums.
        batch_size: images looked at at once.
        seed: of the shuffling for the Inception Score, and of which features are kept.
    """

    folder: Path
    extractor: FeatureExtractor
    device: torch.device
    batch_size: int = 50
    seed: int = 0

    def open(self, name: str, gallery: Gallery, kinds: Sequence[str] = ALL_FEATURES) -> FeatureStore:
        """The features of a gallery, which are perhaps not there yet.

        Raises:
            InputError: the folder was begun with another gallery or extractor, or images of a wrong size.
        """
        probe(self.extractor, gallery.size, self.device)
        return FeatureStore(self.folder / name, gallery, self.extractor, kinds)

    def fill(self, store: FeatureStore, what: str, saver: Saver | None = None) -> FeatureStore:
        """Look at what was not looked at yet; every process has to call this."""
        return store.fill(self.batch_size, self.device, lambda count: Progress(what, count), saver)

    def summarise(self, store: FeatureStore, keep: int = KEPT_DRAWN) -> Summary:
        return summarise(store, self.device, self.seed, keep)

    def measure(self, drawn: Summary, reference: Reference | None) -> dict[str, Any]:
        """What a `Report` has fields for; what cannot be measured is left out, and is said in its warnings."""
        fields: dict[str, Any] = {"inception_score": drawn.scores, "agreement": self._beside_real(drawn, reference)}
        if reference is None or reference.gaussian is None:
            return fields
        warnings = [drawn.moments.warning(), reference.warning()]
        fields["fid"] = frechet_distance(drawn.moments.gaussian(), reference.gaussian)
        if drawn.spatial and reference.spatial:
            fields["sfid"] = frechet_distance(drawn.spatial.gaussian(), reference.spatial)
        if reference.features is None:
            warnings.append(f"{reference.name} has no features of single images, so precision and recall are left out")
        elif min(len(reference.features), len(drawn.kept)) <= FEW:
            warnings.append(f"precision and recall are left out: they need more than {FEW} images of both kinds")
        else:
            real = reference.features.float().to(self.device)
            fields["precision_recall"] = precision_recall(real, drawn.kept)
        return fields | {"warnings": tuple(warning for warning in warnings if warning)}

    def _beside_real(self, drawn: Summary, reference: Reference | None) -> Agreement | None:
        """The agreement of drawn images with their classes, beside that of the best known real ones."""
        if drawn.agreement is None:
            return None
        if reference and reference.origin and reference.origin.agreement is not None:
            return replace(drawn.agreement, real=reference.origin.agreement, real_images="the reference's images")
        accuracy = getattr(self.extractor, "accuracy", None)
        return replace(drawn.agreement, real=accuracy, real_images="real images by the classifier's own validation")

    def memorised(
        self,
        drawn: Summary,
        names: Sequence[str],
        training: FeatureStore,
        held_out: FeatureStore,
        control: FeatureStore,
    ) -> Memorisation:
        """How close drawn images come to training images; pairs are numbers in the galleries.

        Args:
            names: of the classes of the drawn images.
            control: training images in other views than those of ``training``.
        """
        known = tuple(held_out.gallery.class_names)
        training.count()  # says it if there are none
        found = memorisation(
            Labelled(drawn.kept.to(self.device), renumbered(drawn.kept_labels, names, known)),
            training.pool(),
            self._labelled(held_out, known),
            self._labelled(control, known),
            known,
            seed=self.seed,
        )
        numbers = training.numbers()
        pairs = (Pair(int(drawn.kept_indices[p.drawn]), int(numbers[p.training]), p.distance) for p in found.pairs)
        return replace(found, pairs=tuple(pairs))

    def _labelled(self, store: FeatureStore, known: Sequence[str]) -> Labelled:
        kept = Kept(store.count(), self.seed)
        for shard in store:
            kept.add(shard)
        features, _, labels = kept.result()
        return Labelled(features, renumbered(labels, store.gallery.class_names, known))


def renumbered(labels: Tensor, names: Sequence[str], known: Sequence[str]) -> Tensor:
    """Places in some names -> places of the same names in others; -1 for none."""
    place = torch.tensor([*(known.index(name) if name in known else -1 for name in names), -1])
    return place[labels]
