"""What drawn images are measured against: a reference that is there, or one that its images have to give first."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from nextscale.errors import InputError
from nextscale.evaluation.extractors import probe
from nextscale.evaluation.features import sides
from nextscale.evaluation.gallery import Gallery, ImageFile
from nextscale.evaluation.reference import KEPT, Origin, Reference
from nextscale.evaluation.session import Session
from nextscale.evaluation.store import ALL_FEATURES, FeatureStore

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Target:
    """
    Attributes:
        reference: None if all of it comes from the store.
        store: features that are still to be made; None if nothing is missing.
        crop: of the images in the store.
    """

    session: Session
    reference: Reference | None
    store: FeatureStore | None
    crop: str

    @classmethod
    def of_file(cls, session: Session, reference: Reference) -> Target:
        """A reference file. What it lacks, statistics or features, comes from its images if it has some."""
        store = None
        if reference.stored is not None and (reference.gaussian is None or reference.features is None):
            kinds = ALL_FEATURES if reference.gaussian is None else ("pool",)
            store = session.open("reference", ImageFile(Path(reference.name)), kinds)
        return cls(session, reference, store, UNKNOWN)

    @classmethod
    def of_images(cls, session: Session, gallery: Gallery, crop: str) -> Target:
        """Images that were cut out of their files in some way."""
        return cls(session, None, session.open("reference", gallery), crop)

    @property
    def name(self) -> str:
        return self.reference.name if self.reference else self.store.gallery.name if self.store else ""

    def check(self, gallery: Gallery, crop: str | None = None) -> None:
        """Raises InputError now if a gallery could not be measured against it later; see `Reference.check`."""
        extractor = self.session.extractor
        if self.reference:
            self.reference.check(extractor, gallery.size, crop)
            self.reference.check_features(probe(extractor, gallery.size, self.session.device))
        elif self.store and tuple(self.store.gallery.size) != tuple(gallery.size):
            raise InputError(
                f"{self.name} has images of {sides(self.store.gallery.size)}, but {gallery.name} of "
                f"{sides(gallery.size)}"
            )

    def fill(self) -> None:
        """Look at its images; every process has to call this."""
        if self.store:
            self.session.fill(self.store, f"looked at {self.name}")

    def delete(self) -> None:
        """Forget the features that were made."""
        if self.store:
            self.store.delete()

    def finish(self) -> Reference:
        """The whole of it, once it is filled."""
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
