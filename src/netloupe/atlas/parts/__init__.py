"""The parts of an atlas, in the order in which they are made; build, server and export all go through this list."""

from netloupe.atlas.parts.attention import Attention
from netloupe.atlas.parts.examples import Examples
from netloupe.atlas.parts.images import Images
from netloupe.atlas.parts.layout import Layout
from netloupe.atlas.parts.network import NetworkPage
from netloupe.atlas.parts.part import Part
from netloupe.atlas.parts.projections import Projections
from netloupe.atlas.parts.synthesized import Synthesized
from netloupe.atlas.parts.unitmap import UnitMap
from netloupe.atlas.parts.units import Units

PARTS: tuple[type[Part], ...] = (
    Images,
    Units,
    Attention,
    Projections,
    Layout,
    UnitMap,
    Synthesized,
    Examples,
    NetworkPage,
)
TABLES = {name: columns for part in PARTS for name, columns in part.tables.items()}
"""All their tables, and the columns of each."""
