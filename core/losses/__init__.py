"""The losses, one class per file. A new file here is a new loss; nothing else is to be touched."""

from core.registry import import_modules

import_modules(__name__, __path__)
