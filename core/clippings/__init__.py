"""Gradient clipping, one class per file. A new file here registers itself.

A clipping is applied after the penalty's gradient and before the optimizer.
"""

from core.registry import import_modules

import_modules(__name__, __path__)
