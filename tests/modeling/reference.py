"""The published method written down once more: plain, slow, on lists and numpy, from the paper and nothing of ours.

The fast code has to equal it on random inputs (`test_reference.py`). Paper: section 3.2 (selection, projection), 4.3
(clips); what it leaves open was read off the released code's behavior.
"""

import math

import numpy as np


def select(frames, pre_weight, pre_bias, trans_weight, trans_bias, kept):
    """One number per patch, mixed over the frame, softmax; the best `kept` patches in image order."""
    all_tokens, all_indices = [], []
    for patches in frames:  # (N, C)
        row = [float(sum(w * x for w, x in zip(pre_weight, patch))) + pre_bias for patch in patches]
        count = len(row)
        scores = [sum(row[j] * trans_weight[j][i] for j in range(count)) + trans_bias[i] for i in range(count)]
        top = max(scores)
        exponentials = [math.exp(score - top) for score in scores]
        probabilities = [value / sum(exponentials) for value in exponentials]
        best = sorted(range(count), key=lambda i: (-probabilities[i], i))[:kept]
        indices = sorted(best)
        all_indices.append(indices)
        all_tokens.append([patches[i] for i in indices])
    return np.array(all_tokens), np.array(all_indices)


def project(tokens, first_weight, first_bias, second_weight, second_bias):
    """Linear, exact GELU, Linear."""
    hidden = tokens @ first_weight.T + first_bias
    activated = 0.5 * hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    return activated @ second_weight.T + second_bias


def merge(ids, embedding, visual_tokens, image_id):
    """Text embeddings, with the next visual token wherever a placeholder stands."""
    rest = iter([token for frame in visual_tokens for token in frame])
    return np.array([[next(rest) if i == image_id else embedding[i] for i in row] for row in ids])


def loss(logits, labels):
    """Cross-entropy of each labeled token given what stands before it; the mean over the whole batch."""
    terms = []
    for row_logits, row_labels in zip(logits, labels):
        for place in range(1, len(row_labels)):
            if row_labels[place] != -100:
                scores = row_logits[place - 1]
                top = max(scores)
                terms.append(top + math.log(sum(math.exp(s - top) for s in scores)) - scores[row_labels[place]])
    return sum(terms) / len(terms)


def chain(num_frames, box, answer, clip_len=8, overlap=1, single_pass_up_to=32):
    """Boxes of a whole video from answers about clips; the box of a clip's first frame is the one already reported.

    `answer(start, stop, box)` gives {frame: box} of what the model said. A frame without an answer repeats the last
    box (the gap policy "hold").
    """
    reported, last, start = {0: box}, box, 0
    stop = num_frames if num_frames <= max(single_pass_up_to, clip_len) else clip_len
    while True:
        said = answer(start, stop, reported.get(start, last))
        for frame in range(start, stop):
            if frame not in reported:
                last = said.get(frame, last)
                reported[frame] = last
        if stop == num_frames:
            return reported
        start = stop - overlap
        stop = min(start + clip_len, num_frames)
