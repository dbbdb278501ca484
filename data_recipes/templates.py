"""How a question becomes a prompt, and a prompt and an answer a training row."""

from data_recipes.question import Question
from pipeline.core.tokens import all_spelled_out, render_chat

R1_ZERO = (
    "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The assistant "
    "first thinks about the reasoning process in the mind and then provides the user with the answer. The reasoning "
    "process and answer are enclosed within <think> </think> and <answer> </answer> tags, respectively, i.e., <think> "
    "reasoning process here </think> <answer> answer here </answer>. User: {question}. Assistant:"
)
"""The paper's template for R1-Zero (DeepSeek-R1, table 1)."""


def r1_zero_prompt(question: str, template: str | None = None) -> str:
    """The plain-text prompt of base models. The paper's template puts a full stop after the question; a question
    that has its own end keeps it alone."""
    template = template or R1_ZERO
    question = question.strip()
    if "{question}." in template and question.endswith((".", "?", "!", "。", "？", "！")):
        template = template.replace("{question}.", "{question}")
    return template.replace("{question}", question)


def chat_prompt(tokenizer, question: str) -> str:
    """The model's own chat template with one user turn, ending where the assistant begins to write."""
    return render_chat(tokenizer, [{"role": "user", "content": question}])


def prompts_for(questions: list[Question], tokenizer, template: str, r1_zero_text: str | None) -> list[str]:
    """One prompt a question; `template` is `r1_zero` or `chat`. Control tokens in a question are spelled out."""
    if template == "r1_zero":
        asked = all_spelled_out(tokenizer, [q.asked for q in questions])
        return [r1_zero_prompt(question, r1_zero_text) for question in asked]
    return [chat_prompt(tokenizer, q.asked) for q in questions]
