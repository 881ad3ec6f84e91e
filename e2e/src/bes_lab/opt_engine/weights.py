"""Writes an OPT model with random weights and a tokenizer of its own: `python -m bes_lab.opt_engine.weights FOLDER`.

Runs in the engine's environment, which alone has transformers. The architecture is OPT's and the code that runs it is
the real one; nothing is downloaded and nothing it says means anything.
"""

import sys
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from transformers import OPTConfig, OPTForCausalLM, PreTrainedTokenizerFast, set_seed

from bes_api.engines.chat_template import JINJA

SEED = 5
CONTEXT_TOKENS = 2048
# Bytes as the byte-level tokenizer writes them, ASCII only: whatever the model says is whole letters, a piece a token.
LETTERS = [letter for letter in ByteLevel.alphabet() if letter.isascii()] + ["\u0120", "\u010a"]
PAD, END, UNKNOWN = "<pad>", "</s>", "<unk>"
_SENTENCES = (
    "how far can one act now and yet get the sum due ere ten ask for more",
    "the model that still answers in time is the best that this moment can give",
    "a late answer is worth nothing, an early one may be worth a little less than the best",
    "The capital of France is a city on a river, and the river is older than the city.",
)


def write(folder: Path) -> None:
    """Write weights, configuration and tokenizer into ``folder``; the same bytes every time."""
    tokenizer = Tokenizer(BPE(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=512,
        special_tokens=[PAD, END, UNKNOWN],
        initial_alphabet=LETTERS,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END, eos_token=END, unk_token=UNKNOWN, pad_token=PAD
    )
    fast.chat_template = JINJA
    fast.save_pretrained(folder)
    set_seed(SEED)
    model = OPTForCausalLM(
        OPTConfig(
            vocab_size=len(fast),
            hidden_size=256,
            word_embed_proj_dim=256,
            num_hidden_layers=4,
            ffn_dim=1024,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT_TOKENS,
            pad_token_id=fast.pad_token_id,
            bos_token_id=fast.bos_token_id,
            eos_token_id=fast.eos_token_id,
        )
    )
    model.save_pretrained(folder)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
