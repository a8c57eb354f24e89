/* First come, first served, as one would write it by hand in C: the yardstick `bench/replay.py` measures the kernel by.
 *
 * The step model of docs/model.md for one policy and one kind of engine: kv_tokens = 0, prefill_budget = 0. What this
 * policy cannot need is not here: no ranks, no heap, no preemption; waiting requests are a range of the trace, and a
 * running one is a slot of an array that stays in the first-level cache. Same price tables and same arithmetic in the
 * same order as the simulator, so every result must agree bit for bit (compile with -ffp-contract=off).
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

enum { OVERHEAD, DRAFT, VERIFY };
enum { PREFILL, DRAFT_PREFILL };

typedef struct { /* mirrored in bench/replay.py */
    int64_t requests, max_batch, draft_tokens;
    int64_t contexts, queries, cacheds; /* knots of the price tables, see lapsbench/sim/cost.py */
    const double *arrival_s;
    const int32_t *prompt_tokens, *output_tokens, *recording_tokens, *recording_shift;
    const int64_t *recording_start;
    const uint8_t *accept_runs;
    const double *context, *step_s, *step_limit, *query, *cached, *chunk_s, *chunk_limit;
    double *admitted_s, *first_token_s, *finished_s, *itl_max_s, *attained_s;
    int32_t *rounds, *accepted_tokens;
    int64_t steps, lookups, lookups_beyond;
} Replay;

typedef struct { /* a running request */
    double last_emit_s, itl_max_s, attained_s;
    const uint8_t *runs;
    int32_t request, emitted, output, rounds, accepted, recording_tokens, recording_shift;
} Slot;

static double line(const double *knots, int64_t size, const double *values, double x) {
    if (size == 1 || x <= knots[0]) return values[0];
    int64_t left = size - 2;
    while (left > 0 && knots[left] > x) left--;
    double fraction = (x - knots[left]) / (knots[left + 1] - knots[left]);
    return values[left] + fraction * (values[left + 1] - values[left]);
}

static double step_price(Replay *r, int component, int64_t batch, double context) {
    int64_t row = component * (r->max_batch + 1) + batch;
    r->lookups++;
    r->lookups_beyond += context > r->step_limit[row];
    return fmax(0.0, line(r->context, r->contexts, r->step_s + row * r->contexts, context));
}

/* A whole prompt at once: nothing is ever cached before it. */
static double prompt_time(const Replay *r, int component, double tokens) {
    const double *table = r->chunk_s + component * r->queries * r->cacheds, *knots = r->query;
    if (r->queries == 1 || tokens <= knots[0]) return fmax(0.0, line(r->cached, r->cacheds, table, 0.0));
    int64_t left = r->queries - 2;
    while (left > 0 && knots[left] > tokens) left--;
    double below = line(r->cached, r->cacheds, table + left * r->cacheds, 0.0);
    double above = line(r->cached, r->cacheds, table + (left + 1) * r->cacheds, 0.0);
    return fmax(0.0, below + (tokens - knots[left]) / (knots[left + 1] - knots[left]) * (above - below));
}

static double prompt_price(Replay *r, int component, double tokens, int shared) {
    const double *limit = r->chunk_limit + 2 * component;
    r->lookups++;
    r->lookups_beyond += tokens > limit[0] || 0.0 > limit[1];
    double full = prompt_time(r, component, tokens);
    return shared ? fmax(0.0, full - prompt_time(r, component, 1.0)) : full;
}

static void finish(Replay *r, const Slot *s, double now_s) {
    r->finished_s[s->request] = now_s;
    r->itl_max_s[s->request] = s->itl_max_s;
    r->attained_s[s->request] = s->attained_s;
    r->rounds[s->request] = s->rounds;
    r->accepted_tokens[s->request] = s->accepted;
}

/* Returns the makespan, or NaN where there is no memory. */
double replay(Replay *r) {
    const int64_t k = r->draft_tokens;
    int64_t next = 0, running = 0, context = 0, steps = 0; /* context: of the running, prompt + emitted */
    double now_s = 0.0;
    Slot *slots = malloc((size_t)r->max_batch * sizeof *slots);
    if (!slots) return NAN;
    while (running > 0 || next < r->requests) {
        if (running == 0 && r->arrival_s[next] > now_s) now_s = r->arrival_s[next];

        const int64_t decoding = running;
        double work = 0.0;
        while (running < r->max_batch && next < r->requests && r->arrival_s[next] <= now_s) {
            Slot *s = &slots[running++];
            s->request = (int32_t)next;
            s->output = r->output_tokens[next];
            s->runs = r->accept_runs + r->recording_start[next];
            s->recording_tokens = r->recording_tokens[next];
            s->recording_shift = r->recording_shift[next];
            s->emitted = s->rounds = s->accepted = 0;
            s->itl_max_s = NAN;
            s->attained_s = 0.0;
            r->admitted_s[next] = now_s;
            const int shared = running > 1;
            const double tokens = r->prompt_tokens[next++];
            work += prompt_price(r, PREFILL, tokens, shared);
            if (k > 0) work += prompt_price(r, DRAFT_PREFILL, tokens, shared);
        }

        double dt = step_price(r, OVERHEAD, running, 0.0), draft = 0.0, verify = 0.0;
        if (decoding > 0) {
            const double mean = (double)context / (double)decoding;
            if (k > 0) draft = step_price(r, DRAFT, decoding, mean);
            verify = step_price(r, VERIFY, decoding, mean);
        }
        dt = dt + draft + verify + work;
        now_s += dt;
        steps++;

        int64_t kept = 0;
        for (int64_t i = 0; i < decoding; i++) {
            Slot *s = &slots[i];
            int64_t place = s->emitted;
            if (place >= s->recording_tokens)
                place = (place % s->recording_tokens + place / s->recording_tokens * s->recording_shift) %
                        s->recording_tokens;
            int64_t tokens = (s->runs[place] < k ? s->runs[place] : k) + 1;
            if (tokens > s->output - s->emitted) tokens = s->output - s->emitted;
            s->rounds++;
            s->accepted += (int32_t)tokens - 1;
            s->emitted += (int32_t)tokens;
            context += tokens;
            const double gap = now_s - s->last_emit_s;
            if (!(gap <= s->itl_max_s)) s->itl_max_s = gap;
            s->last_emit_s = now_s;
            s->attained_s += dt;
            if (s->emitted == s->output) {
                finish(r, s, now_s);
                context -= (int64_t)r->prompt_tokens[s->request] + s->output;
            } else {
                if (kept != i) slots[kept] = *s;
                kept++;
            }
        }
        for (int64_t i = decoding; i < running; i++) {
            Slot *s = &slots[i];
            r->first_token_s[s->request] = s->last_emit_s = now_s;
            s->emitted = 1;
            s->attained_s = dt;
            if (s->output == 1) {
                finish(r, s, now_s);
            } else {
                context += (int64_t)r->prompt_tokens[s->request] + 1;
                if (kept != i) slots[kept] = *s;
                kept++;
            }
        }
        running = kept;
    }
    free(slots);
    r->steps = steps;
    return now_s;
}
