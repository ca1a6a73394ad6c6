"""`python -m services.asset`."""

import os
import sys

from services.asset.service import AssetService
from services.instrumentation.launch import launch

sys.exit(launch("asset", os.environ, lambda kit: AssetService(kit).application()))
