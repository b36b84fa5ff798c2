"""Client for the VoiceOS conversations API. Imports nothing of Airflow."""

from voiceos_provider.client.async_client import AsyncVoiceOSClient
from voiceos_provider.client.client import VoiceOSClient
from voiceos_provider.client.config import BASE_URL, ClientConfig
from voiceos_provider.client.models import AgentConfig, Conversation, CostBreakdown, Message, PhoneCall
from voiceos_provider.client.pages import Page, RawPage, Rejected
from voiceos_provider.client.requests import STATUSES
from voiceos_provider.client.retry import Retry

__all__ = [
    "BASE_URL",
    "STATUSES",
    "AgentConfig",
    "AsyncVoiceOSClient",
    "ClientConfig",
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
