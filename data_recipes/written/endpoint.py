"""An OpenAI-compatible server that rewrites or judges for us."""

import os

from pipeline.core.errors import ConfigError, RunError

RETRIES = 5


class Endpoint:
    """One model of one server. Its key is read from OPENAI_API_KEY; busy or broken answers are tried again."""

    def __init__(self, url: str, model: str):
        import openai

        self.url, self.model = url, model
        key = os.environ.get("OPENAI_API_KEY", "none")
        self._client = openai.OpenAI(base_url=url, api_key=key, max_retries=RETRIES)

    def ask(self, system: str, user: str, temperature: float, max_tokens: int) -> str:
        """The model's reply. Raises ConfigError for a refused key, RunError when no reply came after all retries."""
        import openai

        try:
            reply = self._client.chat.completions.create(
                model=self.model,
                temperature=temperature,
                max_tokens=max_tokens,
                messages=[{"role": "system", "content": system}, {"role": "user", "content": user}],
            )
        except openai.AuthenticationError as error:
            raise ConfigError(f"{self.url} refused the key in OPENAI_API_KEY: {error}") from error
        except openai.OpenAIError as error:
            raise RunError(
                f"The server at {self.url} (model {self.model}) failed: {error}. "
                "Start or mend it, then run the same command: finished samples are kept."
            ) from error
        return reply.choices[0].message.content or ""
