"""Nets of tokens: a small vision transformer, and a transformer encoder."""

from __future__ import annotations

from latency_models.building import GraphBuilder, Value

__all__ = ["encoder", "vision_transformer"]


def _attention(net: GraphBuilder, x: Value, heads: int) -> Value:
    batch, length, width = x.shape
    size = width // heads

    def head(value: Value) -> Value:
        return net.transpose(net.reshape(value, (batch, length, heads, size)), (0, 2, 1, 3))

    query, key, value = (head(net.dense(x, width)) for _ in range(3))
    mixed = net.matmul(net.softmax(net.matmul(query, key, transpose_b=True)), value)
    return net.dense(net.reshape(net.transpose(mixed, (0, 2, 1, 3)), (batch, length, width)), width)


def vision_transformer(net: GraphBuilder, width: int, depth: int, heads: int) -> Value:
    """Dosovitskiy et al., An image is worth 16x16 words (2021), in the size of DeiT-tiny (Touvron et al., 2021).

    The mean of all tokens is classified in the place of a token of its own.
    """
    x = net.to_tokens(net.conv(net.image(224, 224), width, 16, 16, padding="valid"))
    for _ in range(depth):
        x = net.add(x, _attention(net, net.layer_norm(x), heads))
        x = net.add(x, net.dense(net.dense(net.layer_norm(x), 4 * width, activation="gelu"), width))
    return net.dense(net.mean(net.layer_norm(x)), 1000)


def encoder(net: GraphBuilder, length: int, width: int, depth: int, heads: int) -> Value:
    """Vaswani et al., Attention is all you need (2017): the encoder, norms behind each sum."""
    x = net.input((1, length, width))
    for _ in range(depth):
        x = net.layer_norm(net.add(x, _attention(net, x, heads)))
        x = net.layer_norm(net.add(x, net.dense(net.dense(x, 4 * width, activation="relu"), width)))
    return x
