"""Train the demo model's question-answering adapter: `python -m model_build.encoder.demo_model.train`.

The adapter has low-rank updates for every linear layer of MiniLM-L6, and trains its LayerNorms and the span head. It is
saved as a PEFT adapter in float16. Training needs the build's requirements; the build only loads the result.
"""

import argparse
import json
import math
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from tqdm import tqdm
from transformers import BertForQuestionAnswering

from containers.serving.question_answering.spans import best_spans
from containers.serving.question_answering.windows import EncoderBatch, Window, Windower, WindowLimits, batches
from model_build.encoder.demo_model.base import BASE_MODEL, base_model_path
from model_build.encoder.squad import Question, Scores, read, score

EVALUATION_ARTICLES = ("Amazon_rainforest", "Chloroplast", "Doctor_Who", "Geology")
CALIBRATION_ARTICLES = ("Construction", "Pharmacy")


@dataclass(frozen=True)
class TrainingRecipe:
    """Hyperparameters of the adapter.

    warmup: fraction of the training steps over which the learning rate rises.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.06
    batch_size: int = 16
    epochs: int = 4
    max_seq_length: int = 320
    doc_stride: int = 96
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Example:
    """A window that contains the answer, and the answer's first and last token in it."""

    window: Window
    start: int
    end: int


def main() -> int:
    """Train, score on held-out articles, and write the adapter and its scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("squad", type=Path, help="SQuAD v1.1 file with the articles named in this module")
    parser.add_argument("output", type=Path, help="folder for the adapter")
    parser.add_argument("--epochs", type=int, default=TrainingRecipe.epochs)
    parser.add_argument("--limit", type=int, help="train on this many examples only")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--bf16", action="store_true", help="autocast to bfloat16, for processors that have it")
    arguments = parser.parse_args()

    recipe = TrainingRecipe(epochs=arguments.epochs)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(recipe.seed)
    shuffler = random.Random(recipe.seed)

    base = base_model_path()
    windower = Windower.from_file(
        base / "tokenizer.json", WindowLimits(recipe.max_seq_length, recipe.doc_stride, max_windows=1000)
    )
    questions = read(arguments.squad)
    held_out = {*EVALUATION_ARTICLES, *CALIBRATION_ARTICLES}
    evaluation = [question for question in questions if question.title in EVALUATION_ARTICLES]
    training = [question for question in questions if question.title not in held_out]
    examples = [example for question in training for example in _examples(windower, question)]
    shuffler.shuffle(examples)
    examples = examples[: arguments.limit]

    model = _with_adapter(BertForQuestionAnswering.from_pretrained(base), recipe)
    _train(model, examples, recipe, shuffler, arguments.output, bf16=arguments.bf16)
    merged = PeftModel.from_pretrained(
        BertForQuestionAnswering.from_pretrained(base), arguments.output
    ).merge_and_unload()
    scores = evaluate(merged, windower, evaluation)
    report = {
        "recipe": asdict(recipe),
        "training": {
            "questions": len(training),
            "windows": len(examples),
            "articles": len({q.title for q in training}),
        },
        "evaluation": {"articles": EVALUATION_ARTICLES, **asdict(scores)},
        "calibration": {"articles": CALIBRATION_ARTICLES},
    }
    (arguments.output / "scores.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report["evaluation"]))
    return 0


def _examples(windower: Windower, question: Question) -> Iterator[Example]:
    """Yield the windows that contain the whole label: the most frequent gold answer, the shortest one on a tie."""
    counts = Counter(question.answers)
    label = min(counts, key=lambda answer: (-counts[answer], len(answer.text), answer.start))
    first, last = label.start, label.start + len(label.text) - 1
    for window in windower.windows(question.question, question.context):
        holds_first = (window.offsets[:, 0] <= first) & (first < window.offsets[:, 1])
        holds_last = (window.offsets[:, 0] <= last) & (last < window.offsets[:, 1])
        if holds_first.any() and holds_last.any():
            yield Example(
                window,
                window.context_start + int(np.argmax(holds_first)),
                window.context_start + int(np.argmax(holds_last)),
            )


def _with_adapter(model: BertForQuestionAnswering, recipe: TrainingRecipe) -> PeftModel:
    config = LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        lora_dropout=recipe.dropout,
        target_modules=["query", "key", "value", "dense"],
        exclude_modules=["pooler.dense"],
        modules_to_save=["qa_outputs", "LayerNorm"],
    )
    adapted = get_peft_model(model, config)
    adapted.print_trainable_parameters()
    return adapted


def _train(
    model: PeftModel,
    examples: Sequence[Example],
    recipe: TrainingRecipe,
    shuffler: random.Random,
    output: Path,
    *,
    bf16: bool,
) -> None:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    total = recipe.epochs * math.ceil(len(examples) / recipe.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: min((step + 1) / (recipe.warmup * total), (total - step) / (total * (1 - recipe.warmup))),
    )
    model.train()
    with tqdm(total=total, desc="training", unit="step", mininterval=10) as progress:
        for _ in range(recipe.epochs):
            for rows in _shuffled_batches(examples, recipe.batch_size, shuffler):
                tensors = {
                    name: torch.from_numpy(array)
                    for name, array in EncoderBatch.of([r.window for r in rows]).arrays().items()
                }
                starts = torch.tensor([row.start for row in rows])
                ends = torch.tensor([row.end for row in rows])
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                    output_ = model(**tensors)
                loss = (
                    torch.nn.functional.cross_entropy(output_.start_logits.float(), starts)
                    + torch.nn.functional.cross_entropy(output_.end_logits.float(), ends)
                ) / 2
                loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()
                progress.update()
                progress.set_postfix(loss=f"{loss.item():.2f}", refresh=False)
            _save(model, output)


def _shuffled_batches(examples: Sequence[Example], batch_size: int, shuffler: random.Random) -> Iterator[list[Example]]:
    """Yield batches of similar length in random order, sorted by length within shuffled chunks of 30 batches."""
    order = list(range(len(examples)))
    shuffler.shuffle(order)
    grouped: list[list[Example]] = []
    for begin in range(0, len(order), batch_size * 30):
        chunk = sorted(order[begin : begin + batch_size * 30], key=lambda index: len(examples[index].window.input_ids))
        grouped.extend([examples[i] for i in chunk[k : k + batch_size]] for k in range(0, len(chunk), batch_size))
    shuffler.shuffle(grouped)
    yield from grouped


def _save(model: PeftModel, output: Path) -> None:
    """Save in float16, which halves the file size at no cost in accuracy."""
    model.save_pretrained(output)
    weights = output / "adapter_model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(weights).items()}, weights, metadata={"format": "pt"})
    (output / "README.md").unlink(missing_ok=True)
    config = output / "adapter_config.json"
    # PEFT writes the local folder that the encoder was loaded from, which is meaningless on other machines.
    config.write_text(
        json.dumps({**json.loads(config.read_text()), "base_model_name_or_path": BASE_MODEL}, indent=2) + "\n"
    )


def evaluate(model: torch.nn.Module, windower: Windower, questions: Sequence[Question]) -> Scores:
    """Score a PyTorch model with the serving code's windows and span search."""
    model.eval()
    cut = [windower.windows(question.question, question.context) for question in questions]
    flat = [window for windows in cut for window in windows]
    logits: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for rows in batches(flat, 16):
        tensors = {
            name: torch.from_numpy(array) for name, array in EncoderBatch.of([flat[i] for i in rows]).arrays().items()
        }
        with torch.inference_mode():
            output = model(**tensors)
        for row, index in enumerate(rows):
            length = len(flat[index].input_ids)
            logits[index] = (output.start_logits[row, :length].numpy(), output.end_logits[row, :length].numpy())
    predictions: dict[str, str] = {}
    position = 0
    for question, windows in zip(questions, cut, strict=True):
        spans = best_spans(windows, [logits[position + offset] for offset in range(len(windows))]).spans
        position += len(windows)
        if spans:
            predictions[question.id] = question.context[spans[0].start : spans[0].end]
    return score(questions, predictions)


if __name__ == "__main__":
    sys.exit(main())
