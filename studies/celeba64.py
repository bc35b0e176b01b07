"""What each choice is worth on faces of 64 pixels: one change at a time to `ah_vqvae:tiny`.

avq study studies/celeba64.py --out studies/celeba64 --data celeba=celeba_small.zip
"""

from avq.study import Study

AH = "ah_vqvae:tiny"

STUDY = Study(
    systems={
        "AH": [AH],
        "H": ["h_vqvae:tiny"],
        "A": ["a_vqvae:tiny"],
        "plain": ["vqvae:tiny"],
        "AH3": ["ah3_vqvae:tiny"],
        "AH, Adam": [AH, "--config.optim.optimizer=adam"],
        "AH, all levels decoded": [AH, "--config.model.decoder_inputs=all"],
        "AH, no GAN": [AH, "--config.loss.adversarial_weight=0.0"],
        "AH, quantised late": [AH, "--config.loss.quantization_start=600"],
        "AH, W as printed": [AH, "--config.model.attention_norm=paper"],
        "AH, gradient codebook": [
            AH,
            "--config.model.quantizer=gradient",
            "--config.model.fill=none",
            "--config.model.revive_below=0.0",
        ],
        "AH, W mean": [AH, "--config.model.attention_norm=mean"],
        "AH, W bias": [AH, "--config.model.attention_norm=bias"],
        "AH, RMS norm": [AH, "--config.model.norm=rms"],
        "AH, all levels, no GAN": [
            AH,
            "--config.model.decoder_inputs=all",
            "--config.loss.adversarial_weight=0.0",
        ],
        "AH, GAN late": [AH, "--config.loss.adversarial_start=600"],
        "AH, no revival": [AH, "--config.model.revive_below=0.0"],
        "AH, code width 8": [AH, "--config.model.code_dim=8"],
        "AH, Adam, b1 0.9": [AH, "--config.optim.optimizer=adam", "--config.optim.b1=0.9"],
        "AH, discriminator b1 0.9": [AH, "--config.optim.discriminator_b1=0.9"],
        "AH, commitment 0.05": [AH, "--config.model.commitment=0.05"],
        "AH, raw weights": [AH, "--config.optim.ema_decay=0.0"],
    },
    baseline="AH",
    data={"celeba": "celeba_small.zip"},
    seeds={"AH": 5, "H": 5},
    steps=1000,
    evaluations=2,
)
