"""What each choice of `ah_vqvae_plus:tiny` is worth on faces of 64 pixels: one change at a time.

avq study studies/plus64.py --out studies/plus64 --data celeba=celeba_small.zip
"""

from avq.study import Study

PLUS = "ah_vqvae_plus:tiny"

STUDY = Study(
    systems={
        "plus": [PLUS],
        "Adam": [PLUS, "--config.optim.optimizer=adam", "--config.optim.learning_rate=2e-3"],
        "finest level decoded": [PLUS, "--config.model.decoder_inputs=finest"],
        "no attention": [PLUS, "--config.model.attention_norm=off"],
        "matching 0.02": [PLUS, "--config.model.matching=0.02"],
        "matching 0.1": [PLUS, "--config.model.matching=0.1"],
        "entropy 0.1": [
            PLUS,
            "--config.model.code_entropy=0.1",
            "--config.model.code_temperature=1.0",
        ],
        "unit length": [PLUS, "--config.model.unit_length=True"],
        "rotation": [PLUS, "--config.model.estimator=rotation"],
        "code width 32": [PLUS, "--config.model.code_dim=32"],
        "filled by latents": [PLUS, "--config.model.fill=latents"],
        "batch norm": [PLUS, "--config.model.norm=batch"],
        "squared errors": [
            PLUS,
            "--config.loss.terms.mae_over_var=0.0",
            "--config.loss.terms.mse_over_var=4.0",
        ],
        "quantised late": [PLUS, "--config.loss.quantization_start=250"],
        "GAN": [PLUS, "--config.loss.adversarial_weight=0.02"],
        "dead codes split others": [PLUS, "--config.model.revive_by=splitting"],
    },
    baseline="plus",
    data={"celeba": "celeba_small.zip"},
    seeds={"plus": 3},
    steps=500,
    evaluations=2,
)
