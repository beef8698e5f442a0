"""The blocks, one class per file. A new file registers itself."""

from core.registry import import_modules

import_modules(__name__, __path__)
