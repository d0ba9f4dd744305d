"""DiFuse-Net's attention and fusion as its text has them (arXiv 2506.14709, sections 3 and 4).

:class:`~.basic.WindowedParallaxAttention` and :class:`~.basic.ViewFusion` are what the compact network made of them.
What the text leaves open is an option here, and what it says is the default.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dualpix.models.blocks.basic import ConvBNReLU, row_windows, rows_as_map

ATTENDED = ("own", "other")
REVERSE = ("transpose", "normalised")
NORMALISATIONS = ("sigmoid", "softmax", "none")


class TextbookParallaxAttention(nn.Module):
    """WBiPAM: ``A_lr = softmax(Q K^T)`` within row windows, ``A_rl = A_lr^T``, ``F' = conv(concat(F, A F))``.

    No ``1 / sqrt(C)`` before the softmax, as none is written. One convolution serves both views, as the encoder around
    it does (inferred).

    Args:
        channels: of the features.
        window: k, in px of the map along the baseline; not stated in the text.
        attended: ``"own"`` re-weights the view's own features, as the text insists; ``"other"`` takes those of the
            other view, as PASSRnet (Wang et al., CVPR 2019), where the attention is from.
        reverse: ``"transpose"`` takes ``A_lr^T`` as it is, whose rows sum to anything between 0 and k;
            ``"normalised"`` divides each by its sum.

    Raises:
        ValueError: an option that is none of these.
    """

    def __init__(self, channels: int, window: int = 8, attended: str = "own", reverse: str = "transpose") -> None:
        super().__init__()
        _one_of("attended", attended, ATTENDED)
        _one_of("reverse", reverse, REVERSE)
        self.window, self.attended, self.reverse = window, attended, reverse
        self.query = nn.Conv2d(channels, channels, 1, bias=False)
        self.key = nn.Conv2d(channels, channels, 1, bias=False)
        self.merge = ConvBNReLU(2 * channels, channels, 3)
        self.register_buffer("ones", torch.ones(1, window, 1), persistent=False)

    ones: Tensor

    def weights(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """(A_lr, A_rl), each (B*H*W/k, k, k)."""
        query, key = row_windows(self.query(left), self.window), row_windows(self.key(right), self.window)
        to_right = torch.softmax(torch.bmm(query, key.transpose(1, 2)), -1)
        to_left = to_right.transpose(1, 2)
        if self.reverse == "normalised":
            to_left = to_left / torch.bmm(to_left, self.ones.expand(to_left.shape[0], -1, -1))
        return to_right, to_left

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) twice -> the same shapes; W must be a multiple of the window."""
        to_right, to_left = self.weights(left, right)
        l_tokens, r_tokens = row_windows(left, self.window), row_windows(right, self.window)
        for_left, for_right = (l_tokens, r_tokens) if self.attended == "own" else (r_tokens, l_tokens)
        left_attended = rows_as_map(torch.bmm(to_right, for_left), left)
        right_attended = rows_as_map(torch.bmm(to_left, for_right), right)
        return self.merge(torch.cat([left, left_attended], 1)), self.merge(torch.cat([right, right_attended], 1))


class FeatureWiseFusion(nn.Module):
    """``A_f = conv(concat(F_l, F_r, F_i))``, three maps; ``F' = conv(A_f0 F_l + A_f1 F_r + A_f2 F_i)``.

    All three sources have ``channels`` channels, so that they can be summed. The normalisation of ``A_f`` is not
    stated: ``"sigmoid"`` of each map, ``"softmax"`` over the three, or ``"none"``.

    Raises:
        ValueError: a normalisation that is none of these.
    """

    def __init__(self, channels: int, normalisation: str = "sigmoid") -> None:
        super().__init__()
        _one_of("fusion", normalisation, NORMALISATIONS)
        self.normalisation = normalisation
        self.weights = nn.ModuleList([nn.Conv2d(3 * channels, 1, 3, padding=1) for _ in range(3)])
        self.mix = ConvBNReLU(channels, channels, 3)

    def maps(self, left: Tensor, right: Tensor, image: Tensor) -> list[Tensor]:
        """The weight of each source, (B, 1, H, W)."""
        together = torch.cat([left, right, image], 1)
        maps = [conv(together) for conv in self.weights]
        if self.normalisation == "sigmoid":
            return [torch.sigmoid(one) for one in maps]
        if self.normalisation == "softmax":  # over the last of three axes: see the text of blocks.basic
            tokens = torch.softmax(torch.cat(maps, 1).flatten(2).transpose(1, 2), -1)
            return [rows_as_map(tokens[..., i : i + 1], left) for i in range(3)]
        return maps

    def forward(self, left: Tensor, right: Tensor, image: Tensor) -> Tensor:
        """(B, C, H, W) three times -> the same shape."""
        for_left, for_right, for_image = self.maps(left, right, image)
        fused: Tensor = self.mix(for_left * left + for_right * right + for_image * image)
        return fused


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r:.40}, expected one of {', '.join(known)}")
