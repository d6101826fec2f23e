"""Settings in config.json by the names that they have as options."""

from zero_jax.run.config import OPTIONS


def group_of(config, name):
    """The group, a dict, that a setting is in, and its key there."""
    if name in OPTIONS:
        group, key = OPTIONS[name]
        return config[group], key
    return next((group for group in config.values() if isinstance(group, dict) and name in group), config), name


def with_setting(config, name, value):
    """Changes a setting; one that is a dict only in part."""
    group, key = group_of(config, name)
    group[key] = group[key] | value if isinstance(value, dict) and isinstance(group.get(key), dict) else value
