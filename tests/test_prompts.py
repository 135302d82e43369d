"""Attention syntax, chunks and embeddings; diffusers' own encode_prompt is the oracle for plain prompts."""

import time
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import prompt_syntax, prompts
from pipelines.prompt_syntax import Span, parse_weights, plain
from pipelines.prompts import TokenCount, chunk, count_tokens, encode
from tests.support import tiny

torch = pytest.importorskip("torch")

SYNTAX = st.text(st.sampled_from("ab ,()[]:\\.105-+BREAK\n<>|{}_é"), max_size=80)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return tiny.clip_tokenizer()


@pytest.fixture(scope="module")
def sd() -> Any:
    return tiny.sd()


@pytest.fixture(scope="module")
def sdxl() -> Any:
    return tiny.sdxl()


def weights(text: str) -> list[tuple[str, float]]:
    return [(span.text, round(span.weight, 6)) for span in parse_weights(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", [("", 1.0)]),
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        ("unbalanced)", [("unbalanced)", 1.0)]),
        ("un]balanced", [("un]balanced", 1.0)]),
        (r"\(literal\]", [("(literal]", 1.0)]),
        (r"\[a\] \\ \b", [("[a] \\ b", 1.0)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        ("[down]", [("down", 0.909091)]),
        ("((x))", [("x", 1.21)]),
        ("(x:1.3)", [("x", 1.3)]),
        ("(x: 0.5 )", [("x", 0.5)]),
        ("(x:-1)", [("x", -1.0)]),
        ("(x:+.5)", [("x", 0.5)]),
        ("(a [b] (c:2))", [("a ", 1.1), ("b", 1.0), (" ", 1.1), ("c", 2.2)]),
        ("(a [b) c]", [("a ", 1.1), ("b", 1.0), (" c", 0.909091)]),
        ("time 12:30", [("time 12:30", 1.0)]),
        ("x:1.3)", [("x:1.3)", 1.0)]),
        ("[x:1.3]", [("x:1.3", 0.909091)]),
        ("(x:1.2.3)", [("x:1.2.3", 1.1)]),
        ("(x:1e3)", [("x:1e3", 1.1)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ("a ", 1.0),
                ("house", 1.573),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641),
                (".", 1.1),
            ],
        ),
    ],
)
def test_the_attention_grammar(text: str, expected: list[tuple[str, float]]) -> None:
    assert weights(text) == expected


def test_break_begins_a_chunk_and_takes_the_space_around_it() -> None:
    assert parse_weights("a BREAK\n b") == [Span("a"), Span("b", 1.0, True)]
    assert parse_weights("(a BREAK b:2)") == [Span("a", 2.0), Span("b", 2.0, True)]
    assert parse_weights("BREAK a") == [Span("a", 1.0, True)]
    assert parse_weights("a BREAK BREAK b") == [Span("a"), Span("", 1.0, True), Span("b", 1.0, True)]
    assert parse_weights("BREAKFAST aBREAK break") == [Span("BREAKFAST aBREAK break")]


@given(st.one_of(st.text(max_size=200), SYNTAX))
def test_parsing_never_raises_and_weights_stay_finite(text: str) -> None:
    spans = parse_weights(text)
    assert spans
    assert all(abs(span.weight) <= prompt_syntax.HEAVIEST for span in spans)
    assert all(a.weight != b.weight or b.new_chunk for a, b in pairwise(spans))
    plain(text)
    prompt_syntax.notes_on(text)


@given(st.text(st.characters(exclude_characters="()[]\\"), max_size=200).filter(lambda t: "BREAK" not in t))
def test_text_without_brackets_is_preserved(text: str) -> None:
    assert parse_weights(text) == [Span(text)]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=100).filter(lambda t: "BREAK" not in t))
def test_escaped_text_is_preserved(text: str) -> None:
    escaped = "".join("\\" + letter if letter in "()[]\\" else letter for letter in text)
    assert parse_weights(escaped) == [Span(text)]


@given(st.lists(st.sampled_from(["(", "[", "0.5", "1.25", "-2"]), max_size=12))
def test_nesting_multiplies(brackets: list[str]) -> None:
    text, product = "x", 1.0
    for bracket in brackets:
        number = None if bracket in "([" else float(bracket)
        text = f"({text}:{bracket})" if number is not None else f"({text})" if bracket == "(" else f"[{text}]"
        product *= number if number is not None else 1.1 if bracket == "(" else 1 / 1.1
    (span,) = parse_weights(text)
    assert span.text == "x"
    assert span.weight == pytest.approx(product)


@pytest.mark.parametrize(
    "unit",
    [
        "(",
        "[",
        ")",
        "(a",
        "(a)",
        "([",
        ":1",
        "(:1",
        " ",
        "\\",
        "(x:1.1)",
        "BREAK ",
        "[|",
        "__a",
        "{|",
        "<lora:",
    ],
)
def test_long_input_takes_linear_time(unit: str) -> None:
    def seconds(size: int) -> float:
        text = unit * (size // len(unit))
        began = time.process_time()
        parse_weights(text)
        plain(text)
        prompt_syntax.notes_on(text)
        return time.process_time() - began

    assert seconds(100_000) < 2
    parse_weights("(" * 100_000 + "x" + ")" * 100_000)
    parse_weights("(x:" + "9" * 100_000 + ")")


def test_plain_words() -> None:
    assert plain(r"a (red:1.3) [house] BREAK \(big\) <lora:x:1>") == "a red house (big) "


@given(st.one_of(st.text(max_size=400), SYNTAX.map(lambda text: text * 5)))
@settings(max_examples=50, deadline=None)
def test_chunks_have_the_tokenizers_size(tokenizer: Any, text: str) -> None:
    chunks = chunk(text, tokenizer)
    assert chunks
    for ids, factors in chunks:
        assert len(ids) == len(factors) == 77
        assert ids[0] == tokenizer.bos_token_id and factors[0] == factors[-1] == 1.0
        assert ids[-1] in (tokenizer.eos_token_id, tokenizer.pad_token_id)
    count = count_tokens(text, tokenizer)
    assert count.limit == 75 * len(chunks)
    assert count.limit - 75 <= count.used <= count.limit


@given(st.text(st.sampled_from("abc ,."), max_size=500))
@settings(max_examples=50, deadline=None)
def test_chunks_lose_and_reorder_no_token(tokenizer: Any, text: str) -> None:
    whole = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    found = [i for part in chunk(text, tokenizer) for i in part.ids if i > 1]
    assert found == whole


def test_an_empty_prompt_is_one_chunk_as_diffusers_pads_it(tokenizer: Any) -> None:
    (only,) = chunk("", tokenizer)
    assert list(only.ids) == tokenizer("", padding="max_length", max_length=77)["input_ids"]
    assert count_tokens("", tokenizer) == TokenCount(0, 75)


def test_padding_is_the_tokenizers_own(tokenizer: Any) -> None:
    other = tiny.clip_tokenizer()
    other.pad_token = "!</w>"  # SDXL's second tokenizer pads with "!"
    (only,) = chunk("a cat", other)
    assert list(only.ids) == other("a cat", padding="max_length", max_length=77)["input_ids"]
    assert only.ids[-1] == other.pad_token_id != other.eos_token_id


def test_counts_read_as_the_webuis(tokenizer: Any) -> None:
    assert str(count_tokens("a b c d e f g h i j k l m n", tokenizer)) == "14/75"
    assert str(count_tokens("a " * 75, tokenizer)) == "75/75"
    assert str(count_tokens("a " * 80, tokenizer)) == "80/150"
    assert str(count_tokens("a (b:1.3) BREAK c", tokenizer)) == "76/150"
    assert str(count_tokens("<lora:x:1> a", tokenizer)) == "1/75"


def test_a_phrase_near_the_end_of_a_chunk_moves_on_whole(tokenizer: Any) -> None:
    first, second = chunk("a " * 69 + ", " + "b " * 10, tokenizer)
    assert first.ids[70] == tokenizer.convert_tokens_to_ids(",</w>")
    assert first.ids[71:] == (tokenizer.eos_token_id,) * 6
    assert second.ids[1:11] == (tokenizer.convert_tokens_to_ids("b</w>"),) * 10
    first, second = chunk("a " * 50 + ", " + "b " * 30, tokenizer)  # the comma is too far back
    assert second.ids[7] == tokenizer.eos_token_id


def test_a_smaller_text_encoder_has_smaller_chunks() -> None:
    small = tiny.clip_tokenizer()
    small.model_max_length = 32
    assert [len(part.ids) for part in chunk("a " * 31, small)] == [32, 32]
    assert str(count_tokens("a " * 31, small)) == "31/60"


def test_counting_is_fast(tokenizer: Any) -> None:
    def best(text: str) -> float:
        seconds = []
        for _ in range(5):
            began = time.process_time()
            count_tokens(text, tokenizer)
            seconds.append(time.process_time() - began)
        return min(seconds)

    phrase = "a (cat:1.2) sat, "
    assert best(phrase * 60) < 0.02
    assert best(phrase * (20_000 // len(phrase))) < 0.2  # 0.03 s when nothing else runs


PLAIN = ["", "a cat", "Two cats, one: (dog)", "x " * 75, "a\n cat ,,  sat"]


def literal(text: str) -> str:
    return text.replace("(", r"\(").replace(")", r"\)")


@pytest.mark.parametrize("guidance", [True, False])
@pytest.mark.parametrize("negative", [None, "", "ugly, (bad)"])
@pytest.mark.parametrize("prompt", PLAIN)
def test_plain_prompts_equal_diffusers_bit_for_bit(
    sd: Any, prompt: str, negative: str | None, guidance: bool
) -> None:
    with torch.no_grad():
        expected = sd.encode_prompt(prompt, "cpu", 1, guidance, negative_prompt=negative)
    told = encode(sd, literal(prompt), literal(negative) if negative else negative, guidance).kwargs
    assert set(told) == ({"prompt_embeds", "negative_prompt_embeds"} if guidance else {"prompt_embeds"})
    assert torch.equal(told["prompt_embeds"], expected[0])
    if guidance:
        assert torch.equal(told["negative_prompt_embeds"], expected[1])


@pytest.mark.parametrize("guidance", [True, False])
@pytest.mark.parametrize("negative", [None, "", "ugly, (bad)"])
@pytest.mark.parametrize("prompt", PLAIN)
def test_plain_prompts_equal_diffusers_bit_for_bit_on_sdxl(
    sdxl: Any, prompt: str, negative: str | None, guidance: bool
) -> None:
    with torch.no_grad():
        expected = sdxl.encode_prompt(
            prompt, device="cpu", do_classifier_free_guidance=guidance, negative_prompt=negative
        )
    told = encode(sdxl, literal(prompt), literal(negative) if negative else negative, guidance).kwargs
    names = (
        "prompt_embeds",
        "negative_prompt_embeds",
        "pooled_prompt_embeds",
        "negative_pooled_prompt_embeds",
    )
    for name, tensor in zip(names, expected):
        if guidance or not name.startswith("negative"):
            assert torch.equal(told.pop(name), tensor), name
    assert not told


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_equals_diffusers_too(dtype: str) -> None:
    pipe = tiny.sdxl().to(getattr(torch, dtype))
    with torch.no_grad():
        expected = pipe.encode_prompt("a cat", device="cpu", negative_prompt="")
    told = encode(pipe, "a cat", "", True).kwargs
    assert torch.equal(told["prompt_embeds"], expected[0])
    assert torch.equal(told["negative_pooled_prompt_embeds"], expected[3])
    weighted = encode(pipe, "a (cat:1.5)", "", True).kwargs["prompt_embeds"]
    assert weighted.dtype == expected[0].dtype and bool(torch.isfinite(weighted).all())


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_pictures_equal_plain_diffusers_calls(family: str, request: pytest.FixtureRequest) -> None:
    pipe = request.getfixturevalue(family)
    pipe.set_progress_bar_config(disable=True)
    common: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 7.0, "width": 64, "height": 64}
    common["output_type"] = "latent"

    def paint(**kwargs: Any) -> Any:
        return pipe(generator=torch.Generator().manual_seed(1), **common, **kwargs).images

    expected = paint(prompt="a cat, on a mat", negative_prompt="ugly")
    assert torch.equal(paint(**encode(pipe, "a cat, on a mat", "ugly", True).kwargs), expected)
    long = encode(pipe, "(a:1.2) " * 80 + "BREAK b", "ugly", True)
    assert long.kwargs["prompt_embeds"].shape[1] == 77 * 3
    assert not torch.equal(paint(**long.kwargs), expected)


def test_weights_multiply_and_the_mean_is_restored(sd: Any) -> None:
    base = encode(sd, "a cat sat", None, False).kwargs["prompt_embeds"]
    told = encode(sd, "a (cat:1.5) sat", None, False).kwargs["prompt_embeds"]
    factors = torch.ones(77)
    factors[2:5] = 1.5  # BOS, a, then c, a, t: the tiny tokenizer has one token a letter
    expected = base * factors[None, :, None]
    expected = expected * (base.mean() / expected.mean())
    assert torch.allclose(told, expected, atol=1e-6)
    assert told.mean() == pytest.approx(float(base.mean()), abs=1e-6)


@given(st.lists(st.floats(-prompt_syntax.HEAVIEST, prompt_syntax.HEAVIEST, width=32), min_size=4, max_size=4))
def test_any_weights_leave_finite_embeddings(factors: list[float]) -> None:
    hidden = torch.tensor([[[1.0, -2.0], [3.0, 0.5], [-1.0, 2.0], [0.25, 4.0]]])
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        result = prompts.emphasised(hidden.to(dtype), factors)
        assert result.dtype == dtype and result.shape == hidden.shape
        assert bool(torch.isfinite(result).all())


def test_chunks_are_encoded_apart_and_joined(sd: Any) -> None:
    told = encode(sd, "a cat BREAK a dog", "ugly", True).kwargs
    single = {
        text: encode(sd, text, None, False).kwargs["prompt_embeds"] for text in ("a cat", "a dog", "ugly", "")
    }
    assert torch.equal(told["prompt_embeds"], torch.cat([single["a cat"], single["a dog"]], dim=1))
    assert torch.equal(told["negative_prompt_embeds"], torch.cat([single["ugly"], single[""]], dim=1))
    longer = encode(sd, "a cat", "ugly BREAK bad", True).kwargs
    assert torch.equal(longer["prompt_embeds"], torch.cat([single["a cat"], single[""]], dim=1))


def test_sdxl_pools_the_first_chunk_unweighted(sdxl: Any) -> None:
    told = encode(sdxl, "a (cat:1.5) BREAK a dog", "ugly", True).kwargs
    first = encode(sdxl, "a cat", "ugly", True).kwargs
    assert torch.equal(told["pooled_prompt_embeds"], first["pooled_prompt_embeds"])
    assert torch.equal(told["negative_pooled_prompt_embeds"], first["negative_pooled_prompt_embeds"])
    assert told["prompt_embeds"].shape == told["negative_prompt_embeds"].shape == (1, 154, 64)


def test_textual_inversion_words_become_their_vectors() -> None:
    pipe = tiny.sd()
    embedding = torch.randn(2, 32, generator=torch.Generator().manual_seed(2))
    pipe.load_textual_inversion({"<thing>": embedding}, token="<thing>")
    with torch.no_grad():
        expected, _ = pipe.encode_prompt("a <thing> b", "cpu", 1, False)
    assert torch.equal(encode(pipe, "a <thing> b", None, False).kwargs["prompt_embeds"], expected)


def test_an_encoder_with_an_attention_mask_equals_diffusers() -> None:
    pipe = tiny.sd()
    pipe.text_encoder.config.use_attention_mask = True
    with torch.no_grad():
        expected, _ = pipe.encode_prompt("a cat", "cpu", 1, False)
    assert torch.equal(encode(pipe, "a cat", None, False).kwargs["prompt_embeds"], expected)


def flux() -> Any:
    from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxPipeline, FluxTransformer2DModel
    from transformers import CLIPTextModel, T5Config, T5EncoderModel, T5Tokenizer

    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0), ("a", -3.0)]
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=AutoencoderKL(block_out_channels=[4], latent_channels=1, norm_num_groups=1),
        text_encoder=CLIPTextModel(tiny.sd().text_encoder.config),
        tokenizer=tiny.clip_tokenizer(),
        text_encoder_2=T5EncoderModel(
            T5Config(vocab_size=10, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2)
        ),
        tokenizer_2=T5Tokenizer(vocab=pieces, extra_ids=0),
        transformer=FluxTransformer2DModel(
            in_channels=4,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=8,
            num_attention_heads=1,
            joint_attention_dim=8,
            pooled_projection_dim=32,
            axes_dims_rope=(2, 2, 4),
        ),
    )


def test_other_models_get_the_plain_words_and_a_note() -> None:
    pipe = flux()
    told = encode(pipe, "a (red:1.3) house", "[ugly]", True)
    assert told.kwargs == {"prompt": "a red house", "negative_prompt": "ugly"}
    assert any("weights" in note for note in told.notes)
    assert encode(pipe, "a house", None, True) == prompts.Encoded(
        {"prompt": "a house", "negative_prompt": None}, ()
    )


def test_notes_say_what_is_not_carried_out(sd: Any) -> None:
    assert encode(sd, "a (cat:1.3), [calm]", "", True).notes == ()
    notes = encode(sd, "[cat:dog:0.5] [a|b] {c|d} x AND y __place__ <hypernet:z:1>", "", True).notes
    assert any("<hypernet:...>" in note for note in notes)
    assert any("[a:b:0.5], [a|b], {a|b}, AND, __name__" in note for note in notes)
    (note,) = encode(sd, "a cat", "dog", False).notes
    assert "guidance" in note
