"""An agent as LangChain makes it, with a configuration of its own: one object for all its runs."""

from fake_model import FakeModel
from langchain.agents import create_agent

graph = create_agent(FakeModel(), tools=[]).with_config(
    {"recursion_limit": 50, "metadata": {"kind": "agent"}}
)
