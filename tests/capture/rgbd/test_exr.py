"""OpenEXR depth: files of the project's own library, and what a damaged or hostile one may not do."""

from __future__ import annotations

import base64
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualpix.capture.errors import DualpixError
from dualpix.capture.rgbd.arrays import read_depth_file
from dualpix.capture.rgbd.exr import read_exr

# Written by OpenEXR 3.5.3 (PyPI): 18 x 5 px of 0.5 + n / 16, infinite at (2, 3). ZIP: half floats R beside A, B, G;
# ZIPS: a channel "ViewLayer.Depth.Z"; RLE: "Y", 2 where it would be above 3; PIZ: "Y". Packed by zlib, base85.
FILES = {
    "ZIP": (
        "c-kw|H)LdDU|>kjNX*Mi%_#;lax#lc7(9Vujtq<p5Won<P8cHY7$QL!A`Hp-xdlb3#l@NVc_?g<By&n)Nn&_rUP^vBLsEW)Q6_@`"
        "0|KxBu^<qqWEL0XBvuksmy?;7>R*(ST7<*`JE0)6A~nacxF9vTBq*^YGoK+XCqJ<StdD`A!M-@TC^a<?V!U%|UI|cJnNb=82a*-Y"
        "O2RW!N;1%lD5)$+WhgEw%FIh=;03Es%mX<hGdD3km7xL}C`L>O6E^{IMO^RsgS>|f1XvuVJ8*_HG3ComnV{Doa6+!-|FjLNOPDMI"
        "J-r+^1uQB4^q@{|?cRMY7Me@9IK+uQ>obbjxx3m#XM##*Pnc)WMZ;$aTWWT`i1iMVJ*&D>W1Z_KfwP{QD)L<?Id7Sz(%sjn^8NBg"
        "_6A{|vi@rlIg{?LW;dHJ_U&GoVYw;8_6%8u?8Q%K&SadPv2)9YKU>q%+KRWZH_VKTGq{oe(*8_C@)mW58pbPj_E$l{t^{^@a)tvV"
        "k8r~ShE)*^9yz>oZZj!GIl5T3MI<vbn8c|c2LK^*sD}"
    ),
    "ZIPS": (
        "c-n=~Pe>F|90%~<{!us6T){(!4q_1<!c07P5a(BU=pZB!84}@Z=jlEe-wZR4byox>A|xV2LL?+4A|gUWA|yhjQ>Tbd9Xm#c=-9FE"
        ">^`1b7Z*N!=eysT*_o|exR}WjQK>AnmO+ApKqZDw<GY(m&X0?ljQhuAWXk<hl%AP>G8UD>xhR%NqC)-8aXMywVZ@};emGBe!|I@-"
        "A{~D6&<(yyqCnJ+JTFjMUW<JhHyza<AyQQtTuLHYGS`JsA<YD#F!k$*mc67DOQ{>Tzaq84WtG7hDm48>^C^?cH|76sVQP`2#KcO^"
        "QfK{qq0@&@b7EG~*G%IszihVKKk2N^%Qo-WT(G%rbJyl)n?G%~<{H^&bJXUP&5F%6o7=g=H|lAGM^uDf7y$M%Zks@#hR93bkZ8rr"
        "x@{GG1Gds_iD<{mxor>M9l$5}0^hv6+rFd!fZy;3h+Ev2XQBdhKoNSl)omxyPeCu7fpgsEw)5x%Fa*Oe!UeZ6`WRe=ahTv^Zo7eg"
        "3vR<S_}uQcGI{_J7^w1bw=JSC!#%hU54gi^E9ej55j=)f?sVH4`V&}(4S32Y+_s7S47T7oyx=aky+nTnui*`BbJ1-(=)3S1-oYMs"
        "yX`&t2iS)L_{e_&d%v7@"
    ),
    "RLE": (
        "c-n=My)Oho7{=do$2p&STtuNzC=?Q06bi8`dPF3mvu+0?Yj(3cId|PvqEsryU!WA#MWs}#L?ucc5yG>3Z`P4b%;uM8-sgE|cJ`w>"
        "J)7wuqRPIllyE~#Tp4N_hPOpg5{(Q)74OgwL>Nj>{hG%Oj;-xYsT}W!cD!0yl0iQs2a3Rvq3_!DfBRgi#A@J(pluc(!Iw4RE``3R"
        "=yh95k9J+p*6})`h8b1@AyjMoWuY{dRm;27-FA!imQCsC{Xbjix-TfyfmD0cANSiTI)ps5_XOQ!TDv^3zO#<-%PO<3upY1;vtF=X"
        "v)-{jv3{@)Wm`JQy2!f0dXW8jqEbstA_I(r8DN>2BwIth4SX|tLZTD1BgsxtpMi5g7SW}dO|mO^O>hhDz`dDEvPaa<;03(JYde!H"
        "hkd$1A22}4>PoUv)MH>AOn^x%pJY?0XTTho2Mbp8<)R<tlbTk(@!GWbD!>~6UsPywds5xrRJSkH?N4<FQr*E+*GP4XsqQx@+qe<"
    ),
    "PIZ": (
        "c-n=~KPW{}9KiA4lfgheF&GR6gF*R|K~nFD!JtSAWpKTFc&Dy&Z}*;fN_k0=BuSDaNs=T<k|ddoMx)VaH2U60c`SbQ>HIq9cYf#B"
        "nQ3ZCl!!<s>lmZFh{V&8l`8f|B|eEG@l7)RbP%d2(!TkX$A_h^W1V4bTz^(3{9LP+r2IrFD&guV@SM4S>pX2#f9R^PC@YK*=$!Jp"
        "qCjQrpkuW!lb-L`!ab3ED$0aPnXmTU%2=+=v`$J{(G$fb!`ijkKP~KBpd_-PHd9hjsCP^}gr0V$lyoG1I%U7|lt>bFXhs?X7)Owb"
        "JBqAe13Nf~_ZCDhSa0xvCp_Z?uXw{dJ|Jnn1!X8l64j_dE$UE@1~j4>ZD>a)(&#}i`Y?bYj9?7oaFK<F02VpSBacNaVHqn}#TwSJ"
        "flX{-8#~y=9`<p7Lmc54Cpg6!&T)ZDT;UowxWygr@qowlCuVbucK"
    ),
}


def file_of(name: str) -> bytes:
    return zlib.decompress(base64.b85decode(FILES[name]))


def written(folder: Path, data: bytes) -> Path:
    path = folder / "a.exr"
    path.write_bytes(data)
    return path


def truth() -> np.ndarray:
    depth = (0.5 + np.arange(90).reshape(18, 5) / 16).astype(np.float32)
    depth[2, 3] = np.inf
    return depth


@pytest.mark.parametrize("name", sorted(FILES))
def test_files_of_the_library_are_read_to_the_bit(tmp_path: Path, name: str) -> None:
    found = read_depth_file(written(tmp_path, file_of(name)))
    expected = np.where(truth() > 3, np.float32(2), truth()) if name == "RLE" else truth()
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)


def test_the_package_is_named_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(DualpixError, match=r"expected the OpenEXR package; pip install 'dualpix\[exr\]'"):
        read_exr(written(tmp_path, file_of("ZIP")))


def test_colours_are_no_depth(tmp_path: Path) -> None:
    data = file_of("ZIPS").replace(b"ViewLayer.Depth.Z\0", b"ViewLayer.Depth.A\0")
    assert read_exr(written(tmp_path, data)).shape == (18, 5)  # alone, whatever it is called
    two = file_of("ZIP").replace(b"R\0\1\0\0\0", b"X\0\1\0\0\0")
    with pytest.raises(DualpixError, match="has channels A, B, G, X; expected one of depth: Z, V, Y or R"):
        read_exr(written(tmp_path, two))


@pytest.mark.parametrize("name", ["ZIP", "RLE"])
def test_a_file_that_ends_too_early_is_refused_wherever_it_ends(tmp_path: Path, name: str) -> None:
    data = file_of(name)
    for length in range(0, len(data), 7):
        with pytest.raises(DualpixError, match=r"is cut or damaged|is no OpenEXR|is empty|claims"):
            read_exr(written(tmp_path, data[:length]))


def test_a_huge_size_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    data = file_of("ZIP")
    at = data.index(b"dataWindow\0box2i\0") + len(b"dataWindow\0box2i\0") + 4
    for window in ((0, 0, 2**31 - 1, 2**31 - 1), (0, 0, 20_000, 3_000), (5, 5, 4, 4), (-(2**31), 0, 2**31 - 1, 4)):
        with pytest.raises(DualpixError):
            read_exr(written(tmp_path, data[:at] + struct.pack("<4i", *window) + data[at + 16 :]))


@given(st.sampled_from(["ZIP", "ZIPS", "RLE"]), st.integers(0, 950), st.binary(min_size=1, max_size=12))
def test_damage_is_a_refusal_or_a_plane(
    tmp_path_factory: pytest.TempPathFactory, name: str, at: int, new: bytes
) -> None:
    data = file_of(name)
    at %= len(data)
    path = written(tmp_path_factory.getbasetemp(), data[:at] + new + data[at + len(new) :])
    try:
        assert read_exr(path).ndim == 2
    except DualpixError as error:
        assert "\n" not in str(error)
