"""VideoQA: matches, verdicts, and judges behind a local server that fails in every way that they do."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from evaluate_metrics.videoqa.judge import JudgeUnavailableError, OpenAICompatibleJudge, TransformersJudge
from evaluate_metrics.videoqa.judging import estimate, judge_all
from evaluate_metrics.videoqa.matching import match_answer
from evaluate_metrics.videoqa.qa import evaluate_qa
from evaluate_metrics.videoqa.verdicts import UnreadableReplyError, Verdict, check_prompt, read_verdict

ROOT = Path(__file__).parents[2]
YES, NO = "{'pred': 'yes', 'score': 4}", "{'pred': 'no', 'score': 1}"


@pytest.mark.parametrize(
    ("said", "true", "exact", "normalized", "contained"),
    [
        ("dog", "dog", True, True, True),
        (" The Dog. ", "dog", False, True, True),
        ("two", "2", False, True, True),
        ("it is a brown dog", "dog", False, False, True),
        ("hotdog", "dog", False, False, False),
        ("", "dog", False, False, False),
        ("dog brown", "brown dog", False, False, False),
    ],
)
def test_matches(said, true, exact, normalized, contained):
    expected = {"exact_match": exact, "normalized_match": normalized, "contained_match": contained}
    assert match_answer(said, true) == expected


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (YES, Verdict(True, 4)),
        ("Sure! ```python\n{'pred': 'No', 'score': '0'}\n```", Verdict(False, 0)),
        ('{"pred": "yes", "score": 5}', Verdict(True, 5)),
        (f"{YES} and again {YES}", Verdict(True, 4)),
        (f"{YES} or {NO}", "contradictory"),
        ("I cannot tell.", "unparseable"),
        ("", "unparseable"),
        ("{'pred': 'maybe', 'score': 3}", "unparseable"),
        ("{'pred': 'yes', 'score': 9}", "unparseable"),
        ("{'pred': 'yes', 'score': 2.5}", "unparseable"),
        ("{'pred': __import__('os').getcwd(), 'score': 3}", "unparseable"),
    ],
)
def test_replies(reply, verdict):
    if isinstance(verdict, Verdict):
        assert read_verdict(reply) == verdict
    else:
        with pytest.raises(UnreadableReplyError) as caught:
            read_verdict(reply)
        assert caught.value.kind == verdict


class Server(ThreadingHTTPServer):
    """Answers by the model's answer: `script` has one list of (status, text) per answer, the last one for good."""

    daemon_threads = True

    def __init__(self, script):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.calls, self.seen, self.lock = script, [], [], threading.Lock()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = body["messages"][1]["content"]
        name = next(line.split(": ", 1)[1] for line in text.splitlines() if line.startswith("Model's answer"))
        with self.server.lock:
            self.server.calls.append(name)
            self.server.seen.append((self.path, self.headers.get("Authorization"), body["model"], body["temperature"]))
            steps = self.server.script[name]
            status, reply = steps[min(self.server.calls.count(name), len(steps)) - 1]
        content = {"choices": [{"message": {"content": reply}}]} if status == 200 else {"error": reply}
        data = json.dumps(content).encode() if reply != "broken" else b"<html>"
        self.send_response(status)
        if status == 429:
            self.send_header("Retry-After", "7")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def served():
    servers = []

    def start(script):
        servers.append(Server(script))
        return servers[-1], OpenAICompatibleJudge(servers[-1].url, "m", api_key="secret", timeout_s=10)

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


SCRIPT = {
    "right": [(200, YES)],
    "wrong": [(200, NO)],
    "later": [(429, "slow down"), (500, "oops"), (200, YES)],
    "limited": [(429, "slow down")],
    "broken": [(200, "broken")],
    "gone": [(503, "maintenance")],
    "secret": [(401, "bad key")],
    "babble": [(200, "Well, hm.")],
    "both": [(200, YES + NO)],
}
PROBLEMS = {"rate_limited": 1, "down": 2, "refused": 1, "nonsense": 1, "answered_twice": 1}


def test_everything_that_goes_wrong_is_named_and_stays_in_the_denominator(served, tmp_path):
    server, judge = served(SCRIPT)
    names = [*SCRIPT, ""]
    waits, seen = [], []
    how = {"cache": tmp_path, "concurrency": 3, "max_attempts": 3, "sleep": waits.append, "on_item": seen.append}
    groups = {"kind": ["ok", "ok", "ok", *["bad"] * 7]}
    with pytest.warns(UserWarning, match=r"6 of 10 answers have no verdict \(rate_limited 1, down 2, "):
        result = evaluate_qa(names, ["right"] * 10, ["q?"] * 10, judge, return_items=True, groups=groups, **how)
    assert result["problems"] == PROBLEMS
    kinds = result["groups"]["kind"]
    assert kinds["ok"]["judge_accuracy"] == 2 / 3 and kinds["ok"]["problems"] == {}
    assert (kinds["bad"]["num_items"], kinds["bad"]["num_unjudged"], kinds["bad"]["num_empty"]) == (7, 6, 1)
    assert (result["num_items"], result["num_judged"], result["num_unjudged"], result["num_empty"]) == (10, 4, 6, 1)
    assert result["judge_accuracy"] == 2 / 10 and result["judge_score"] == (4 + 1 + 4 + 0) / 10
    assert result["judge_accuracy_of_judged"] == 2 / 4 and result["judge_score_of_judged"] == 9 / 4
    items = dict(zip(names, result["items"], strict=True))
    assert items["later"]["correct"] is True and items["babble"]["reply"] == "Well, hm."
    assert items["both"]["correct"] is None and items["both"]["problem"] == "answered_twice"
    counts = {name: server.calls.count(name) for name in SCRIPT}
    # a refusal is final, and so is the same unreadable reply twice
    fewer = {"right": 1, "wrong": 1, "secret": 1, "babble": 2, "both": 2}
    assert counts == {name: fewer.get(name, 3) for name in SCRIPT}
    assert waits.count(7.0) == 3 and max(waits) < 7.1  # Retry-After, and never more than asked for
    assert len(seen) == 9
    assert set(server.seen) == {("/v1/chat/completions", "Bearer secret", "m", 0)}
    assert not any(
        "secret" in path.read_text().replace("Model's answer: secret", "") for path in tmp_path.rglob("*.json")
    )


def test_a_second_run_asks_only_what_is_open(served, tmp_path):
    server, judge = served(SCRIPT)
    arguments = (["q?"] * 3, ["right", "right", "babble"], ["x"] * 3)
    first = judge_all(judge, *arguments, cache=tmp_path, max_attempts=1)
    (tmp_path / "plain").touch()
    modes = {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*") if path.is_file()}
    assert modes == {(tmp_path / "plain").stat().st_mode & 0o777} and not list(tmp_path.rglob("*.part"))
    assert sorted(server.calls) == ["babble", "right"]  # equal items are asked once
    again = judge_all(judge, *arguments, cache=tmp_path, max_attempts=1)
    assert sorted(server.calls) == ["babble", "babble", "right"]
    assert [item.verdict for item in again] == [item.verdict for item in first]
    assert (again[0].attempts, again[2].attempts) == (0, 1)
    (stored,) = tmp_path.rglob("*.json")
    stored.write_text('{"reply":')  # cut off by a crash: as good as none
    judge_all(judge, *arguments, cache=tmp_path, max_attempts=1)
    assert server.calls.count("right") == 2
    assert not list(tmp_path.rglob("*.part"))


def test_a_judge_that_is_not_there():
    judge = OpenAICompatibleJudge("http://127.0.0.1:9/v1", "m", timeout_s=2)
    with pytest.warns(UserWarning, match=r"1 of 1 answers have no verdict \(down 1\)"):
        result = evaluate_qa(["a"], ["a"], ["q"], judge, max_attempts=2, sleep=lambda seconds: None)
    assert result["problems"] == {"down": 1} and result["judge_accuracy"] == 0.0
    assert result["judge_accuracy_of_judged"] is None and result["exact_match"] == 1.0
    with pytest.raises(JudgeUnavailableError, match="down: http://127.0.0.1:9"):
        judge([])


def test_a_local_model_is_asked_greedily():
    def generator(messages, **options):
        assert messages[0]["role"] == "system" and "cat" in messages[1]["content"]
        assert options == {"max_new_tokens": 64, "do_sample": False, "return_full_text": False}
        return [{"generated_text": YES}]

    result = evaluate_qa(["cat"], ["cat"], ["q"], TransformersJudge(generator, "tiny"), concurrency=1)
    assert (result["judge_accuracy"], result["judge"]) == (1.0, "tiny")


def tiny_chat_model(folder):
    """A word-level tokenizer with a chat template and a one-layer Llama whose most likely word is always the first."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"yes": 0, "no": 1, "</s>": 2, "[UNK]": 3}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", eos_token="</s>")
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=4, bos_token_id=None, eos_token_id=2, **sizes))
    model.lm_head.weight.data.zero_()
    model.save_pretrained(folder)


def test_a_real_local_model_that_babbles_is_counted(tmp_path):
    transformers = pytest.importorskip("transformers")
    tiny_chat_model(tmp_path)
    pipe = transformers.pipeline("text-generation", model=str(tmp_path), device="cpu")
    judge = TransformersJudge(pipe, "tiny", max_new_tokens=4)
    assert judge([{"role": "user", "content": "no no"}]).split() == ["yes"] * 4
    with pytest.warns(UserWarning, match=r"3 of 3 answers have no verdict \(nonsense 3\)"):
        result = evaluate_qa(["a", "b", "c"], ["x"] * 3, ["q"] * 3, judge, return_items=True)
    assert result["judge_accuracy"] == 0.0 and result["items"][0]["reply"] == "yes yes yes yes"


class Recorder:
    """A judge that notes what it is asked; `reply` is a text, or an error to raise."""

    name = "recorder"

    def __init__(self, reply):
        self.reply, self.asked = reply, []

    def __call__(self, messages):
        answer = messages[1]["content"].split("Model's answer: ")[1].split("\n")[0]
        self.asked.append(answer)
        outcome = self.reply(answer) if callable(self.reply) else self.reply
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


def columns(count):
    return (["q?"] * count, [f"answer {index}" for index in range(count)], ["x"] * count)


@pytest.mark.parametrize("reason", ["down", "rate_limited", "refused"])
def test_a_silent_judge_is_given_up_and_all_are_counted(reason, caplog, tmp_path):
    judge = Recorder(JudgeUnavailableError(reason, "no one there"))
    how = {"concurrency": 1, "max_attempts": 2, "sleep": lambda seconds: None, "cache": tmp_path}
    judged = judge_all(judge, *columns(50), give_up_after=5, **how)
    assert [item.problem for item in judged] == [reason] * 50
    assert len(judge.asked) == 5 * (1 if reason == "refused" else 2)
    assert "did not reply to 5 items in a row" in caplog.text and "no one there" in judged[-1].reply
    judge.reply = YES  # it is back: the next run asks for all of them
    assert all(item.verdict for item in judge_all(judge, *columns(50), give_up_after=5, **how))
    judge.reply = JudgeUnavailableError(reason, "gone again")  # what is cached stays known, even after giving up
    more = [[*part, extra] for part, extra in zip(columns(50), ("q?", "new", "x"), strict=True)]
    assert [item.problem for item in judge_all(judge, *more, give_up_after=1, **how)] == [None] * 50 + [reason]


def test_failures_among_replies_are_no_reason_to_give_up():
    gone = JudgeUnavailableError("down", "gone")
    judge = Recorder(lambda answer: gone if int(answer.split()[1]) % 3 == 0 else YES)
    judged = judge_all(judge, *columns(20), give_up_after=2, max_attempts=1, concurrency=1)
    assert [item.problem for item in judged] == ["down" if index % 3 == 0 else None for index in range(20)]
    assert len(judge.asked) == 20


def test_what_was_interrupted_goes_on(tmp_path):
    judge = Recorder(lambda answer: KeyboardInterrupt() if answer == "answer 2" else YES)
    with pytest.raises(KeyboardInterrupt):
        judge_all(judge, *columns(5), cache=tmp_path, concurrency=1)
    judge.reply = YES
    before = set(judge.asked) - {"answer 2"}
    judge.asked.clear()
    assert all(item.verdict for item in judge_all(judge, *columns(5), cache=tmp_path, concurrency=1))
    assert {"answer 0", "answer 1"} <= before and not before & set(judge.asked)


def test_the_cost_is_said_beforehand_and_bounded(caplog):
    judge, (questions, answers, truth) = Recorder(YES), columns(3)
    prices = {"usd_per_million_input": 1e6, "usd_per_million_output": 1e6}
    with pytest.raises(ValueError, match=r"about \d+\.\d\d dollars \(3 calls\), above max_usd=1"):
        evaluate_qa(answers, truth, questions, judge, max_usd=1, **prices)
    with pytest.raises(ValueError, match="needs usd_per_million_input"):
        evaluate_qa(answers, truth, questions, judge, max_usd=1)
    assert judge.asked == []
    result = evaluate_qa(answers, truth, questions, judge, max_usd=1e9, **prices)
    assert f"3 calls (0 items cached), about {result['estimate']['input_tokens']} tokens sent" in caplog.text


def test_the_estimate_sends_nothing_and_knows_the_cache(served, tmp_path):
    server, judge = served(SCRIPT)
    questions, answers, truth = ["q?"] * 4, ["right", "right", "wrong", ""], ["x"] * 4
    before = estimate(questions, answers, truth, judge, tmp_path, 1.0, 2.0)
    assert server.calls == [] and (before["num_items"], before["num_cached"], before["num_calls"]) == (4, 0, 2)
    assert before["usd"] == pytest.approx((before["input_tokens"] + 2 * before["output_tokens"]) / 1e6)
    judge_all(judge, questions[:1], answers[:1], truth[:1], cache=tmp_path)
    after = estimate(questions, answers, truth, judge, tmp_path)
    assert (after["num_cached"], after["num_calls"], after["usd"]) == (2, 1, None)
    assert after["input_tokens"] < before["input_tokens"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"predictions": ["a"], "references": []}, "1 predictions and 0 references"),
        ({"predictions": [], "references": []}, "0 predictions and 0 references"),
        ({"predictions": [None], "references": ["a"]}, r"predictions\[0\] = None is no text"),
        ({"predictions": ["a"], "references": ["a"], "judge": Recorder("")}, "a judge needs questions"),
        ({"predictions": ["a"], "references": ["a"], "groups": {"type": []}}, "0 labels for 1 items"),
        (
            {"predictions": ["a"], "references": ["a"], "judge": Recorder(""), "questions": []},
            "0 questions, 1 predictions",
        ),
        (
            {"predictions": ["a"], "references": ["a"], "judge": Recorder(""), "questions": ["q"], "concurrency": 0},
            "at least 1",
        ),
        (
            {
                "predictions": ["a"],
                "references": ["a"],
                "judge": Recorder(""),
                "questions": ["q"],
                "prompt": "{question}",
            },
            "lacks",
        ),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(ValueError, match=message):
        evaluate_qa(**arguments)


def test_prompts_and_addresses_are_checked():
    check_prompt("{question} {reference} {prediction} {{'pred': ...}}")
    with pytest.raises(ValueError, match="cannot be filled in"):
        check_prompt("{question} {reference} {prediction} {'pred'}")
    with pytest.raises(ValueError, match="must start with http"):
        OpenAICompatibleJudge("localhost:8000", "m")


def test_loads_as_an_evaluate_module_and_the_card_s_examples_run(monkeypatch, tmp_path, served):
    evaluate = pytest.importorskip("evaluate")
    monkeypatch.chdir(ROOT)
    metric = evaluate.load("evaluate_metrics/videoqa", cache_dir=str(tmp_path))
    metric.add_batch(predictions=["The dog."], references=["dog"])
    metric.add_batch(predictions=[""], references=["cat"])
    assert metric.compute()["normalized_match"] == 0.5
    server, _ = served({"The dog.": [(200, YES)], "two": [(200, NO)]})
    card = (ROOT / "evaluate_metrics/videoqa/README.md").read_text(encoding="utf-8")
    names = {}
    for block in card.split("```python\n")[1:]:
        code = block.split("```")[0].replace("http://localhost:8000/v1", server.url)
        exec(compile(code.replace('"verdicts"', repr(str(tmp_path / "verdicts"))), "README.md", "exec"), names)
    result = names["result"]
    assert result["normalized_match"] == pytest.approx(2 / 3) and result["num_empty"] == 1
    assert result["judge_accuracy"] == pytest.approx(1 / 3) and result["judge_score"] == pytest.approx(5 / 3)
    assert result["problems"] == {} and sorted(server.calls) == ["The dog.", "two"]
