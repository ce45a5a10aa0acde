"""Towers of random weights as torch modules, written as torch's users write them.

They do the sums that ours do, with the same weights, on images of one size: windows are a batch of their own, as all of
them are whole there. What differs from a published module: nothing that is multiplied.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from longspan.models.audio_tower import sinusoids
from longspan.models.tower import places_of

from ..models.random_sound_tower import PlainSound
from ..models.random_towers import Plain


class Tower(nn.Module):  # torch is not looked into
    """(images, patches, numbers of a patch) -> (images, dim), or (images, cells, dim) with a merger."""

    def __init__(self, plain: Plain) -> None:
        super().__init__()
        shape = self.shape = plain.shape
        spec = self.spec = shape.spec
        assert spec.patches is not None
        self.has_class = spec.patches.has_class_token
        at = places_of((1, *shape.grid), spec.patches, spec.layers[0].rotary)
        assert at.cos is not None and at.sin is not None
        repeats = (lambda x: x.repeat_interleave(2, 1)) if self._interleaved else (lambda x: torch.cat([x, x], 1))
        self.register_buffer("cos", repeats(torch.from_numpy(at.cos)))
        self.register_buffer("sin", repeats(torch.from_numpy(at.sin)))
        order = at.order
        self.register_buffer("order", None if order is None else torch.from_numpy(order))
        self.register_buffer("back", None if order is None else torch.argsort(torch.from_numpy(order)))
        self.windows = 0 if at.windows is None else len(at.windows)
        self.patches = self._linear(plain.patches)
        place = plain.positions
        if place is not None and at.taps is not None and at.tap_weights is not None:  # stretched over the image, once
            place = (place[at.taps] * at.tap_weights[:, :, None]).sum(1)
        self.register_buffer("place", None if place is None else torch.from_numpy(place))
        token = plain.class_token
        self.register_buffer("token", None if token is None else torch.from_numpy(token)[None, None])
        self.layers = nn.ModuleList(
            nn.ModuleDict({name: self._linear(weight) for name, weight in own.items()}) for own in plain.layers
        )
        self.merger = None if plain.merger is None else nn.ModuleList(self._linear(weight) for weight in plain.merger)

    @property
    def _interleaved(self) -> bool:
        rotary = self.spec.layers[0].rotary
        return rotary is not None and rotary.interleaved

    @staticmethod
    def _linear(weight):
        module = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            module.weight.copy_(torch.from_numpy(weight))
            module.bias.zero_()
        return module

    def _norm(self, x):
        eps = self.spec.norm_eps
        if self.spec.norm == "layer_norm":
            return functional.layer_norm(x, (int(x.shape[-1]),), eps=eps)  # the tracer wants it to be a number
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)

    def _turn(self, x):
        if self._interleaved:
            pairs = x.unflatten(-1, (-1, 2))
            other = torch.stack([-pairs[..., 1], pairs[..., 0]], -1).flatten(-2)
        else:
            first, second = x.chunk(2, -1)
            other = torch.cat([-second, first], -1)
        return x * self.cos.to(x.dtype) + other * self.sin.to(x.dtype)

    def forward(self, pixels):
        """See the class."""
        spec, images = self.spec, pixels.shape[0]
        if self.order is not None:
            pixels = pixels[:, self.order]
        x = self.patches(pixels)
        if self.has_class:
            x = torch.cat([self.token.to(x.dtype).expand(images, -1, -1), x], 1)
        if self.place is not None:
            x = x + self.place.to(x.dtype)
        for kind, layer in zip(spec.layers, self.layers):
            qkv = layer["qkv"](self._norm(x)).view(images, -1, 3, spec.num_heads, spec.head_dim)
            q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
            q, k = self._turn(q), self._turn(k)
            if kind.is_windowed:
                q, k, v = (part.unflatten(2, (self.windows, -1)).transpose(1, 2) for part in (q, k, v))
            found = functional.scaled_dot_product_attention(q, k, v)
            if kind.is_windowed:
                found = found.transpose(1, 2).flatten(2, 3)
            found = found.transpose(1, 2).flatten(2)
            x = x + layer["out"](self._norm(found) if self.has_class else found)
            inner = layer["up"](self._norm(x))
            if spec.gate is None:
                inner = functional.gelu(inner, approximate="tanh")
            else:
                gate, up = inner.chunk(2, -1)
                inner = functional.silu(gate) * up
            x = x + layer["down"](self._norm(inner) if self.has_class else inner)
        if self.merger is None:
            return self._norm(x)[:, 0]
        x = x if self.back is None else x[:, self.back]
        joined = self._norm(x).reshape(images, -1, self.merger[0].in_features)
        return self.merger[1](functional.gelu(self.merger[0](joined)))


class SoundTower(nn.Module):  # torch is not looked into
    """(chunks, frames, mels) -> (1, tokens, dim): chunks of one length, all of one sound."""

    def __init__(self, plain: PlainSound) -> None:
        super().__init__()
        spec = self.spec = plain.shape.spec
        hidden = spec.hidden_size
        self.convs = nn.ModuleList()
        for weight, step in zip(plain.stem, (1, 2)):
            conv = nn.Conv1d(weight.shape[1] // 3, hidden, 3, step, 1)
            with torch.no_grad():
                conv.weight.copy_(torch.from_numpy(weight.reshape(hidden, 3, -1)).transpose(1, 2))
                conv.bias.zero_()
            self.convs.append(conv)
        assert spec.stem is not None
        self.register_buffer("place", torch.from_numpy(sinusoids(spec.stem.chunk // 2, hidden)))
        self.layers = nn.ModuleList(
            nn.ModuleDict({name: Tower._linear(weight) for name, weight in own.items()}) for own in plain.layers
        )
        self.connector = Tower._linear(plain.connector)

    def _norm(self, x):
        return functional.layer_norm(x, (int(x.shape[-1]),), eps=self.spec.norm_eps)

    def forward(self, frames):
        """See the class."""
        spec, x = self.spec, frames.transpose(1, 2)
        for conv in self.convs:
            x = functional.gelu(conv(x))
        x = x.transpose(1, 2) + self.place.to(x.dtype)
        for layer in self.layers:
            qkv = layer["qkv"](self._norm(x)).unflatten(2, (3, spec.num_heads, spec.head_dim))
            q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
            found = functional.scaled_dot_product_attention(q, k, v)
            x = x + layer["out"](found.transpose(1, 2).flatten(2))
            x = x + layer["down"](functional.gelu(layer["up"](self._norm(x))))
        pooled = self._norm(x.reshape(1, -1, 2, spec.hidden_size).mean(2))
        return self.connector(pooled)
