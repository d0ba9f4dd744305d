"""Building blocks shared by the networks.

Only operators that XNNPACK, Vulkan and Core ML all delegate: ReLU (no hard-swish, no squeeze-excite), batch norm that
folds into the convolution before it, attention as 3-D ``bmm``, bilinear resize. Softmax runs on a 3-D tensor: on a 4-D
one next to a convolution XNNPACK's channels-last pass moves the layout but not the axis, and the result is wrong.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dualpix.models.blocks.constants import constant
from dualpix.models.blocks.resize import upsample


class ConvBNReLU(nn.Sequential):
    """Convolution, batch norm, ReLU: (B, in, H, W) -> (B, out, H/stride, W/stride)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        groups: int = 1,
        relu: bool = True,
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(out_channels),
        ]
        super().__init__(*layers, *([nn.ReLU()] if relu else []))


class InvertedResidual(nn.Module):
    """MobileNetV2 block as in EfficientNet-Lite (Sandler et al., CVPR 2018): expand, depthwise, project, no SE.

    (B, in, H, W) -> (B, out, H/stride, W/stride); residual where shape is kept.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int = 3, stride: int = 1, expand: int = 4
    ) -> None:
        super().__init__()
        hidden = in_channels * expand
        self.expand = ConvBNReLU(in_channels, hidden, 1)
        self.depthwise = ConvBNReLU(hidden, hidden, kernel, stride=stride, groups=hidden)
        self.project = ConvBNReLU(hidden, out_channels, 1, relu=False)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class FusedInvertedResidual(nn.Module):
    """EfficientNetV2's fused form (Tan & Le, ICML 2021): a dense 3x3 expands, a 1x1 projects.

    At high resolution and few channels it is faster than the depthwise form on CPUs and NPUs, and sees both axes at
    once, which a disparity of a fraction of a pixel needs.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1, expand: int = 2) -> None:
        super().__init__()
        hidden = in_channels * expand
        self.expand = ConvBNReLU(in_channels, hidden, 3, stride=stride)
        self.project = ConvBNReLU(hidden, out_channels, 1, relu=False)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block."""
        y: Tensor = self.project(self.expand(x))
        return x + y if self.residual else y


class UpsampleJoin(nn.Module):
    """Upsample what lies below by 2, join what stands beside it, convolve."""

    def __init__(self, below: int, beside: int, out_channels: int, refine: nn.Module | None = None) -> None:
        """Args: refine: what convolves, (B, out, H, W) -> the same; by default an inverted residual."""
        super().__init__()
        self.reduce = ConvBNReLU(below, out_channels, 1)
        self.join = ConvBNReLU(out_channels + beside, out_channels, 1)
        self.refine = InvertedResidual(out_channels, out_channels, expand=2) if refine is None else refine

    def forward(self, below: Tensor, beside: Tensor) -> Tensor:
        """(B, below, H/2, W/2), (B, beside, H, W) -> (B, out, H, W)."""
        y: Tensor = self.refine(self.join(torch.cat([upsample(self.reduce(below), 2), beside], 1)))
        return y


def row_windows(x: Tensor, window: int) -> Tensor:
    """(B, C, H, W) -> (B*H*W/window, window, C): rows cut along x."""
    return x.permute(0, 2, 3, 1).reshape(-1, window, x.shape[1])


def rows_as_map(tokens: Tensor, like: Tensor) -> Tensor:
    """The inverse of :func:`row_windows`: (B*H*W/k, k, C) -> (B, C, H, W) of ``like``'s batch and size."""
    b, _, h, w = like.shape
    return tokens.reshape(b, h, w, tokens.shape[2]).permute(0, 3, 1, 2)


class WindowedParallaxAttention(nn.Module):
    """Windowed bidirectional parallax attention, WBiPAM (DiFuse-Net, arXiv 2506.14709, section 3).

    Each image row is cut into windows of ``window`` pixels along the baseline (x); left attends to right inside a
    window and, by the transposed scores, right to left. Beside the attended features each side receives the expected
    offset of its match (soft arg-max of the attention, in pixels of this feature map): what the following
    convolutions need to regress a disparity, and what re-weighted features alone tell only by way of their difference.

    ``attended``: ``"other"`` takes the matched features of the other view (PASSRnet's form, Wang et al., CVPR 2019);
    ``"own"`` re-weights the view's own features, as the DiFuse-Net text has it.
    """

    def __init__(self, channels: int, window: int = 8, attended: str = "other") -> None:
        super().__init__()
        if attended not in ("other", "own"):
            raise ValueError(f"attended is '{attended}', expected 'other' or 'own'")
        self.window, self.attended = window, attended
        self.query = nn.Conv2d(channels, channels, 1, bias=False)
        self.key = nn.Conv2d(channels, channels, 1, bias=False)
        self.merge = ConvBNReLU(2 * channels + 1, channels, 3)
        self.register_buffer("scale", torch.tensor(channels**-0.5), persistent=False)
        position = constant(lambda: torch.arange(window, dtype=torch.float32).reshape(1, window, 1))
        self.register_buffer("position", position, persistent=False)

    scale: Tensor
    position: Tensor

    def _windows(self, x: Tensor) -> Tensor:
        return row_windows(x, self.window)

    def _attend(self, scores: Tensor, values: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        weights = torch.softmax(scores, -1)  # (P, k, k)
        # expand stays outside the delegate but costs nothing; matmul by the constant column ends in a crash of XNNPACK
        position = self.position.expand(weights.shape[0], -1, -1)
        offset = torch.bmm(weights, position) - position  # (P, k, 1)
        return rows_as_map(torch.bmm(weights, values), like), rows_as_map(offset, like)

    def forward(self, left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) twice -> the same shapes; W must be a multiple of the window."""
        scores = torch.bmm(self._windows(self.query(left)) * self.scale, self._windows(self.key(right)).transpose(1, 2))
        l_tokens, r_tokens = self._windows(left), self._windows(right)
        for_left, for_right = (r_tokens, l_tokens) if self.attended == "other" else (l_tokens, r_tokens)
        l_att, l_off = self._attend(scores, for_left, left)
        r_att, r_off = self._attend(scores.transpose(1, 2), for_right, right)
        return (
            self.merge(torch.cat([left, l_att, l_off], 1)),
            # the right view sees its matches on the other side: negated, one set of weights serves both
            self.merge(torch.cat([right, r_att, -r_off], 1)),
        )


class ViewFusion(nn.Module):
    """DiFuse-Net's feature-wise fusion: one weight map per source (left, right, image), weighted sum, convolution.

    The published text leaves the normalisation of the weight maps open; here a sigmoid per source. The sources
    themselves also reach the convolution: a sum of left and right cannot tell which side of focus a point is on, and
    a network that has only the sum spends thousands of steps before it finds out.
    """

    def __init__(self, dp_channels: int, image_channels: int, out_channels: int) -> None:
        super().__init__()
        self.align = ConvBNReLU(image_channels, dp_channels, 1)
        self.weights = nn.ModuleList([nn.Conv2d(3 * dp_channels, 1, 3, padding=1) for _ in range(3)])
        self.mix = ConvBNReLU(4 * dp_channels, out_channels, 3)

    def forward(self, left: Tensor, right: Tensor, image: Tensor) -> Tensor:
        """(B, dp, H, W), (B, dp, H, W), (B, image, H, W) -> (B, out, H, W)."""
        image = self.align(image)
        together = torch.cat([left, right, image], 1)
        w_left, w_right, w_image = (torch.sigmoid(conv(together)) for conv in self.weights)
        weighted = w_left * left + w_right * right + w_image * image
        out: Tensor = self.mix(torch.cat([weighted, together], 1))
        return out
