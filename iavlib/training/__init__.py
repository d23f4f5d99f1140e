"""One training engine: arrays in, weights and predictions out.

It knows images by id and path, and targets by name, but neither cohorts nor experiments. Its
modules are imported one by one, because only some need PyTorch::

    cache = cache_images(cohort.images["path"], size=224)
    batches = ImageBatches.from_cache(cache, targets, mean, std)
    train, val = batches.select(train_ids), batches.select(val_ids)
    objective = ImageObjective(val, "iaa", loss_name="beta_nll")
    history = fit(network, train, objective, get_recipe("modern"), folder, seed=0)
    raw = predict(network, batches.select(test_ids))
"""
