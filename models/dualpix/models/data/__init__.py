"""Training data: sources of clean samples, mixed by weight into one stream of batches.

    data = assemble(["procedural", "rendered/:0.5"], task, options=SourceOptions(seed=1), window=Window((128, 160)),
                    share=0.1)
    loader = DataLoader(MixtureDataset(data.training, form_in_loader=on_cpu),
                        batch_sampler=MixtureSampler(data.training, batch_size, first_step, last_step, rank=0, world=1),
                        collate_fn=collate, num_workers=4, multiprocessing_context="spawn")
    skips = Skips()
    for loaded in loader:
        skips.note(loaded.skipped)
        batch = data.training.finish(loaded, device)

:mod:`.source` is the interface, :mod:`.sources` are the kinds, :mod:`.mixture` says which sample comes when,
:mod:`.split` what is held out, :mod:`.windows` brings samples to one size, :mod:`.skipped` replaces what does not read.
"""
