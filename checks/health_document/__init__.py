"""Health documents: what a service says of itself and of what it depends on, in five dialects."""

from checks.health_document.document import HealthDocument
from checks.health_document.reading import read

__all__ = ["HealthDocument", "read"]
