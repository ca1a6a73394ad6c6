"""`python -m services.chat`."""

import os
import sys

from services.chat.service import ChatService
from services.instrumentation.launch import launch

sys.exit(launch("chat", os.environ, lambda kit: ChatService(kit).application()))
