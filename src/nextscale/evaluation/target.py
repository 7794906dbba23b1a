"""The reference of an evaluation: read from a file, or computed from images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from nextscale.errors import InputError
from nextscale.evaluation.extractors import probe
from nextscale.evaluation.features import sides
from nextscale.evaluation.gallery import Gallery, ImageFile
from nextscale.evaluation.reference import KEPT, UNKNOWN, Origin, Reference
from nextscale.evaluation.session import Session
from nextscale.evaluation.store import ALL_FEATURES, FeatureStore


@dataclass(frozen=True)
class Target:
    """A reference that may have to be computed.

    Attributes:
        reference: the reference from a file; None if everything is computed from images.
        store: features of the images to compute the reference from; None if the file is complete.
        crop: crop of the images in the store.
    """

    session: Session
    reference: Reference | None
    store: FeatureStore | None
    crop: str

    @classmethod
    def of_file(cls, session: Session, reference: Reference) -> Target:
        """Make a target from a reference file. Missing statistics or features are computed from its images, if any."""
        store = None
        if reference.stored is not None and (reference.gaussian is None or reference.features is None):
            kinds = ALL_FEATURES if reference.gaussian is None else ("pool",)
            store = session.open("reference", ImageFile(Path(reference.name)), kinds)
        return cls(session, reference, store, UNKNOWN)

    @classmethod
    def of_images(cls, session: Session, gallery: Gallery, crop: str) -> Target:
        """Make a target from images with the given crop."""
        return cls(session, None, session.open("reference", gallery), crop)

    @property
    def name(self) -> str:
        """The name of the reference in messages."""
        return self.reference.name if self.reference else self.store.gallery.name if self.store else ""

    def check(self, gallery: Gallery, crop: str | None = None) -> None:
        """Raise InputError if a gallery cannot be measured against this reference; see `Reference.check`."""
        extractor = self.session.extractor
        if self.reference:
            self.reference.check(extractor, gallery.size, crop)
            self.reference.check_features(probe(extractor, gallery.size, self.session.device))
        elif self.store and tuple(self.store.gallery.size) != tuple(gallery.size):
            raise InputError(
                f"{self.name} has images of {sides(self.store.gallery.size)}, but {gallery.name} of "
                f"{sides(gallery.size)}"
            )
        elif self.store and len(self.store.gallery) < 2:
            raise InputError(f"{self.name} has {len(self.store.gallery)} image: a reference needs at least 2")

    def fill(self) -> None:
        """Compute the missing features. All processes must call this."""
        if self.store:
            self.session.fill(self.store, f"read {self.name}:")

    def delete(self) -> None:
        """Delete the computed features."""
        if self.store:
            self.store.delete()

    def finish(self) -> Reference:
        """Return the complete reference. Call `fill` first."""
        if self.store is None:
            assert self.reference
            return self.reference
        summary = self.session.summarise(self.store, KEPT)
        extractor, gallery = self.session.extractor, self.store.gallery
        agreement = summary.agreement.overall if summary.agreement else None
        origin = Origin(extractor.name, extractor.fingerprint, gallery.size, self.crop, summary.count, agreement)
        if self.reference and self.reference.gaussian:
            return replace(self.reference, features=summary.kept)
        return summary.as_reference(self.name, origin)
