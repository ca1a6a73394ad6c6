"""`python -m services.auth`."""

import os
import sys

from services.auth.service import AuthService
from services.instrumentation.launch import launch

sys.exit(launch("auth", os.environ, lambda kit: AuthService(kit).application()))
