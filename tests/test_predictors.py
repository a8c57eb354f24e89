"""Predictors: what each may say of a length, and how good its guesses are."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import kendalltau

from lapsbench.errors import LapsbenchError, UsageError
from lapsbench.policies.predictors import BAND_LIMITS, CLASS_LIMITS, CONFUSION, MEAN_TOKENS, parse_predictor, predict

SSJF = "predictors/ssjf_vicuna-13b_5class.csv"


@pytest.fixture(scope="module")
def ssjf(public):
    return pl.read_csv(public(SSJF)).sample(10_000, seed=1)


def lengths(count=5_000):
    return np.random.default_rng(3).integers(1, 2000, count).astype(np.int32)


def tau(text, output_tokens):
    return kendalltau(predict(parse_predictor(text), output_tokens, 0)[0], output_tokens).statistic


def test_oracle_tells_the_true_length():
    predicted, _ = predict(parse_predictor("oracle"), lengths(), 0)
    assert predicted.tolist() == lengths().tolist()


def test_none_tells_everyone_the_mean_of_the_trace():
    predicted, classes = predict(parse_predictor("none"), np.array([100, 300], dtype=np.int32), 0)
    assert predicted.tolist() == [200.0, 200.0]
    assert classes.tolist() == [2, 2]


def test_noise_is_lognormal_with_the_sigma_asked_for():
    true = np.full(50_000, 10_000, dtype=np.int32)
    errors = np.log(predict(parse_predictor("noisy:sigma=0.35"), true, 0)[0] / true)
    assert abs(errors.mean()) < 0.01
    assert errors.std() == pytest.approx(0.35, abs=0.01)


def test_noise_never_predicts_less_than_a_token():
    predicted, _ = predict(parse_predictor("noisy:sigma=3"), np.ones(1000, dtype=np.int32), 0)
    assert predicted.min() == 1.0


def test_no_noise_is_the_oracle():
    predicted, _ = predict(parse_predictor("noisy:sigma=0"), lengths(), 0)
    assert predicted.tolist() == lengths().tolist()


def answers():
    """Draw as many lengths from every band as the data of the real predictor have there."""
    ends, random = (1, *BAND_LIMITS, 512), np.random.default_rng(0)
    sizes = np.array(CONFUSION).sum(axis=1)
    drawn = [random.integers(*band, size) for *band, size in zip(ends[:-1], ends[1:], sizes, strict=True)]
    return np.concatenate(drawn).astype(np.int32)


def test_classes_err_and_order_as_published_for_the_real_predictor():
    true = answers()
    predicted = predict(parse_predictor("classes"), true, 0)[0]
    drawn, right = np.searchsorted(MEAN_TOKENS, predicted), np.searchsorted(CLASS_LIMITS, true, side="right")
    assert kendalltau(predicted, true).statistic == pytest.approx(0.63, abs=0.02)
    assert np.mean(drawn == right) == pytest.approx(0.59, abs=0.01)
    assert [true[drawn == each].mean() for each in range(5)] == pytest.approx(MEAN_TOKENS, rel=0.05)


def test_classes_order_requests_about_as_well_as_the_real_predictor(ssjf):
    true = ssjf["output_tokens"].to_numpy().astype(np.int32)
    real = kendalltau(ssjf["predicted_class"].to_numpy(), true).statistic
    assert real == pytest.approx(0.63, abs=0.02)
    assert tau("classes", true) == pytest.approx(real, abs=0.03)


def test_classes_err_as_often_as_the_real_predictor(ssjf):
    true = ssjf["output_tokens"].to_numpy().astype(np.int32)
    drawn = np.searchsorted(MEAN_TOKENS, predict(parse_predictor("classes"), true, 0)[0])
    right = np.searchsorted(CLASS_LIMITS, true, side="right")
    assert np.mean(drawn == right) == pytest.approx(0.59, abs=0.02)


def test_half_a_sigma_of_noise_orders_chat_lengths_like_the_real_predictor():
    chat = np.rint(np.random.default_rng(0).lognormal(np.log(129), 0.86, 5000)).astype(np.int32)
    assert tau("noisy", chat) == pytest.approx(0.65, abs=0.03)


def test_the_means_of_the_predicted_classes_are_those_of_the_data(public):
    means = (
        pl.read_csv(public(SSJF))
        .group_by("predicted_class")
        .agg(pl.col("output_tokens").mean())
        .sort("predicted_class")
    )
    assert means["output_tokens"].to_list() == pytest.approx(MEAN_TOKENS, abs=0.005)


def test_a_trace_may_bring_its_own_predictions():
    given = np.array([0.5, 57.9, 58.0, 499.0])
    predicted, classes = predict(parse_predictor("trace"), np.ones(4, dtype=np.int32), 0, given=given)
    assert predicted.tolist() == [1.0, 57.9, 58.0, 499.0]
    assert classes.tolist() == [0, 0, 1, 4]


@pytest.mark.parametrize("given", [None, np.array([1.0, np.nan]), np.array([1.0, 0.0])])
def test_unusable_predictions_of_the_trace_are_refused(given):
    with pytest.raises(LapsbenchError, match="predicted_tokens"):
        predict(parse_predictor("trace"), np.ones(2, dtype=np.int32), 0, given=given)


@pytest.mark.parametrize("text", ["noisy", "classes"])
def test_one_seed_is_one_draw_and_another_seed_another(text):
    first, again, other = (predict(parse_predictor(text), lengths(), seed)[0] for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("text", ["noisy", "classes", "oracle"])
def test_a_limited_trace_gets_the_predictions_of_the_whole(text):
    whole, _ = predict(parse_predictor(text), lengths(), 7)
    part, _ = predict(parse_predictor(text), lengths()[:100], 7)
    assert np.array_equal(whole[:100], part)


@pytest.mark.parametrize("text", ["oracle", "noisy", "classes", "none"])
def test_an_empty_trace_has_no_predictions(text):
    predicted, classes = predict(parse_predictor(text), np.empty(0, dtype=np.int32), 0)
    assert (predicted.dtype, classes.dtype, len(predicted), len(classes)) == (np.float64, np.int32, 0, 0)


@pytest.mark.parametrize("text", ["oracle", "noisy:sigma=0.9", "classes", "none", "trace"])
def test_a_label_reads_back_as_the_predictor(text):
    assert parse_predictor(text).label == text
    assert parse_predictor(parse_predictor("noisy").label) == parse_predictor("noisy:sigma=0.5")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("bert", "oracle.*noisy.*classes.*none.*trace"),
        ("", "oracle"),
        ("noisy:mu=1", "sigma"),
        ("noisy:sigma=much", "'much'"),
        ("noisy:sigma=-1", "'-1'"),
        ("noisy:sigma=nan", "'nan'"),
        ("noisy:sigma", "a number"),
        ("oracle:sigma=1", "takes none"),
    ],
)
def test_what_is_not_a_predictor_is_a_usage_error(text, told):
    with pytest.raises(UsageError, match=told):
        parse_predictor(text)


def test_a_negative_seed_is_a_usage_error():
    with pytest.raises(UsageError, match="seed -1"):
        predict(parse_predictor("noisy"), lengths(), -1)
