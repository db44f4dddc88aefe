"""timm's architectures whose every module was compared with what our ViT computes.

Made by `benchmarks/timm_architectures.py` with timm 1.0.31, of whose 284 ViT-like
architectures these 153 are good. What is not here is refused by its name: others differ
in ways that parameters don't show, such as rotary positions or norms after the blocks.
"""

# (heads, GELU, epsilon of the norms) -> names of architectures; the weights don't say.
_NAMES = {
    (2, 'exact', 1e-06): '''
        test_vit test_vit2''',
    (3, 'exact', 1e-06): '''
        deit_tiny_patch16_224 vit_tiny_patch16_224 vit_tiny_patch16_384
        vit_tiny_r_s16_p8_224 vit_tiny_r_s16_p8_384''',
    (4, 'exact', 1e-06): '''
        vit_wee_patch16_reg1_gap_256''',
    (4, 'exact', 1e-05): '''
        vit_xsmall_patch16_clip_224''',
    (5, 'exact', 1e-06): '''
        vit_little_patch16_reg1_gap_256 vit_little_patch16_reg4_gap_256''',
    (6, 'exact', 1e-06): '''
        deit3_small_patch16_224 deit3_small_patch16_384 deit_small_patch16_224
        flexivit_small vit_small_patch14_dinov2 vit_small_patch14_reg4_dinov2
        vit_small_patch16_224 vit_small_patch16_36x1_224 vit_small_patch16_384
        vit_small_patch32_224 vit_small_patch32_384 vit_small_patch8_224
        vit_small_r26_s32_224 vit_small_r26_s32_384''',
    (8, 'exact', 1e-06): '''
        deit3_medium_patch16_224 vit_medium_patch16_gap_240
        vit_medium_patch16_gap_256 vit_medium_patch16_gap_384
        vit_medium_patch16_reg1_gap_256 vit_medium_patch16_reg4_gap_256
        vit_mediumd_patch16_reg4_gap_256 vit_mediumd_patch16_reg4_gap_384''',
    (8, 'exact', 1e-05): '''
        vit_medium_patch16_clip_224 vit_medium_patch32_clip_224''',
    (10, 'exact', 1e-06): '''
        vit_betwixt_patch16_gap_256 vit_betwixt_patch16_reg1_gap_256
        vit_betwixt_patch16_reg4_gap_256 vit_betwixt_patch16_reg4_gap_384''',
    (10, 'exact', 1e-05): '''
        vit_betwixt_patch32_clip_224''',
    (12, 'exact', 1e-06): '''
        deit3_base_patch16_224 deit3_base_patch16_384 deit_base_patch16_224
        deit_base_patch16_384 flexivit_base vit_base_patch14_dinov2
        vit_base_patch14_reg1_tipsv2 vit_base_patch14_reg4_dinov2
        vit_base_patch16_224 vit_base_patch16_224_miil vit_base_patch16_384
        vit_base_patch16_radio_v3 vit_base_patch16_reg4_gap_256
        vit_base_patch16_siglip_224 vit_base_patch16_siglip_256
        vit_base_patch16_siglip_384 vit_base_patch16_siglip_512
        vit_base_patch16_siglip_gap_224 vit_base_patch16_siglip_gap_256
        vit_base_patch16_siglip_gap_384 vit_base_patch16_siglip_gap_512
        vit_base_patch32_224 vit_base_patch32_384 vit_base_patch8_224
        vit_base_r26_s32_224 vit_base_r50_s16_224 vit_base_r50_s16_384''',
    (12, 'exact', 1e-05): '''
        vit_base_patch16_clip_224 vit_base_patch16_clip_384
        vit_base_patch32_clip_224 vit_base_patch32_clip_256
        vit_base_patch32_clip_384 vit_base_patch32_clip_448''',
    (12, 'quick', 1e-05): '''
        vit_base_patch16_clip_quickgelu_224 vit_base_patch32_clip_quickgelu_224''',
    (12, 'tanh', 1e-06): '''
        vit_base_patch32_siglip_256 vit_base_patch32_siglip_gap_256''',
    (13, 'exact', 1e-06): '''
        vit_so150m2_patch16_reg1_gap_256 vit_so150m2_patch16_reg1_gap_384
        vit_so150m2_patch16_reg1_gap_448''',
    (14, 'exact', 1e-06): '''
        vit_base_patch16_plus_240 vit_base_patch32_plus_256
        vit_so150m_patch16_reg4_gap_256 vit_so150m_patch16_reg4_gap_384
        vit_so150m_patch16_reg4_map_256''',
    (14, 'exact', 1e-05): '''
        vit_base_patch16_plus_clip_240''',
    (16, 'exact', 1e-06): '''
        deit3_huge_patch14_224 deit3_large_patch16_224 deit3_large_patch16_384
        eva_large_patch14_196 eva_large_patch14_336 flexivit_large
        vit_base_patch16_gap_224 vit_giant_patch14_224 vit_giant_patch16_gap_224
        vit_gigantic_patch14_224 vit_huge_patch14_224 vit_huge_patch14_gap_224
        vit_huge_patch16_gap_448 vit_huge_patch16_radio_v3 vit_huge_patch16_radio_v4
        vit_intern300m_patch14_448 vit_large_patch14_224 vit_large_patch14_dinov2
        vit_large_patch14_reg1_tipsv2 vit_large_patch14_reg4_dinov2
        vit_large_patch16_224 vit_large_patch16_384 vit_large_patch16_radio_v3
        vit_large_patch16_siglip_256 vit_large_patch16_siglip_384
        vit_large_patch16_siglip_gap_256 vit_large_patch16_siglip_gap_384
        vit_large_patch32_224 vit_large_patch32_384 vit_large_r50_s32_224
        vit_large_r50_s32_384 vit_so400m_patch14_reg1_tipsv2
        vit_so400m_patch14_siglip_224 vit_so400m_patch14_siglip_378
        vit_so400m_patch14_siglip_384 vit_so400m_patch14_siglip_gap_224
        vit_so400m_patch14_siglip_gap_378 vit_so400m_patch14_siglip_gap_384
        vit_so400m_patch14_siglip_gap_448 vit_so400m_patch14_siglip_gap_896
        vit_so400m_patch16_radio_v4''',
    (16, 'exact', 1e-05): '''
        vit_giant_patch14_clip_224 vit_gigantic_patch14_clip_224
        vit_gigantic_patch14_clip_378 vit_huge_patch14_clip_224
        vit_huge_patch14_clip_336 vit_huge_patch14_clip_378
        vit_large_patch14_clip_224 vit_large_patch14_clip_336''',
    (16, 'quick', 1e-05): '''
        vit_gigantic_patch14_clip_quickgelu_224 vit_huge_patch14_clip_quickgelu_224
        vit_huge_patch14_clip_quickgelu_378 vit_large_patch14_clip_quickgelu_224
        vit_large_patch14_clip_quickgelu_336''',
    (16, 'tanh', 1e-06): '''
        vit_giantopt_patch16_siglip_256 vit_giantopt_patch16_siglip_384
        vit_giantopt_patch16_siglip_gap_256 vit_giantopt_patch16_siglip_gap_384
        vit_large_patch16_siglip_512 vit_large_patch16_siglip_gap_512
        vit_so400m_patch16_siglip_256 vit_so400m_patch16_siglip_384
        vit_so400m_patch16_siglip_512 vit_so400m_patch16_siglip_gap_256
        vit_so400m_patch16_siglip_gap_384 vit_so400m_patch16_siglip_gap_512''',
    (24, 'exact', 1e-06): '''
        vit_giant_patch16_radio_v3''',
}
ARCHITECTURES: dict[str, tuple[int, str, float]] = {
    name: settings for settings, names in _NAMES.items() for name in names.split()}
