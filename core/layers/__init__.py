"""The layers, one class per file in the folder of its family. A new file registers itself."""

from core.registry import import_modules

import_modules(__name__, __path__)
