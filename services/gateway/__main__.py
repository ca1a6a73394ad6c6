"""`python -m services.gateway`."""

import os
import sys

from services.gateway.service import GatewayService
from services.instrumentation.launch import launch

sys.exit(launch("gateway", os.environ, lambda kit: GatewayService(kit).application()))
