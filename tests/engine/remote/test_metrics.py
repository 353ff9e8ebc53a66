"""What servers count: their text of metrics as they write it, and those that tell nothing."""

from __future__ import annotations

import pytest

from midspan.engine.remote import counted
from midspan.engine.remote.probing import summed
from tests.engine.remote.holes import remote_at
from tests.engine.remote.http_server import Asked, HttpServer, Reply, json_reply

LLAMA_SERVER = """# HELP llamacpp:prompt_seconds_total Prompt process time
# TYPE llamacpp:prompt_seconds_total counter
llamacpp:prompt_seconds_total 1.5
llamacpp:tokens_predicted_seconds_total 0.25
llamacpp:n_decode_total 42
llamacpp:requests_processing 0
"""
VLLM = """# TYPE vllm:request_queue_time_seconds histogram
vllm:request_queue_time_seconds_sum{engine="0",model_name="google/diffusion{x}"} 0.5
vllm:request_queue_time_seconds_sum{engine="1",model_name="google/diffusion{x}"} 0.25
vllm:request_queue_time_seconds_count{engine="0",model_name="google/diffusion{x}"} 10.0
vllm:request_queue_time_seconds_bucket{le="0.3"} 9.0
vllm:request_prefill_time_seconds_sum{engine="0"} 1e+00
vllm:request_decode_time_seconds_sum{engine="0"} 2.0 1732999999000
vllm:diffusion_num_denoising_steps_total{engine="0"} 640.0
"""


def test_the_counts_of_llama_cpp() -> None:
    assert summed(LLAMA_SERVER) == {"forwards": 42.0, "busy_s": 1.75}


def test_the_counts_of_vllm_are_added_up_over_its_labels() -> None:
    assert summed(VLLM) == {"forwards": 640.0, "busy_s": 3.0, "queue_s": 0.75, "begun": 10.0}


@pytest.mark.parametrize("text", ["", "nonsense", "llamacpp:n_decode_total NaN\n", "llamacpp:n_decode_total many\n"])
def test_what_is_no_count_is_left_out(text: str) -> None:
    assert summed(text) == {}


def test_a_llama_server_tells_its_slots_too() -> None:
    def answer(asked: Asked) -> Reply:
        if asked.path == "/props":
            return json_reply({"total_slots": 4})
        return Reply(headers={"content-type": "text/plain"}, chunks=[LLAMA_SERVER.encode()])

    with HttpServer(answer) as server:
        assert counted(remote_at(server.url)) == {"slots": 4.0, "forwards": 42.0, "busy_s": 1.75}
        assert [asked.path for asked in server.asked] == ["/props", "/metrics"]
        assert counted(remote_at(server.url, "completions", "qwen2.5-coder")) == {"forwards": 42.0, "busy_s": 1.75}


def test_a_server_without_metrics_tells_what_it_can() -> None:
    def answer(asked: Asked) -> Reply:
        return json_reply({"total_slots": 1}) if asked.path == "/props" else json_reply({"error": {"code": 501}}, 501)

    with HttpServer(answer) as server:
        assert counted(remote_at(server.url)) == {"slots": 1.0}
        assert counted(remote_at(server.url, "ollama", "qwen2.5-coder")) == {}
    assert counted(remote_at(server.url)) == {}
