"""The VoiceOS conversations API, from Python. Knows nothing of Airflow."""

from voiceos_provider.api.client import AsyncVoiceOSClient, VoiceOSClient
from voiceos_provider.api.models import AgentConfig, Conversation, CostBreakdown, Message, PhoneCall
from voiceos_provider.api.pages import Page, RawPage, Rejected
from voiceos_provider.api.requests import STATUSES
from voiceos_provider.api.retry import Retry
from voiceos_provider.api.settings import BASE_URL, ClientSettings

__all__ = [
    "BASE_URL",
    "STATUSES",
    "AgentConfig",
    "AsyncVoiceOSClient",
    "ClientSettings",
    "Conversation",
    "CostBreakdown",
    "Message",
    "Page",
    "PhoneCall",
    "RawPage",
    "Rejected",
    "Retry",
    "VoiceOSClient",
]
