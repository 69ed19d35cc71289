"""Sphinx extension: the book's public address, told once.

Every address is derived from `repository: url` in `_config.yml`: the theme makes the
launch and edit buttons from it, and this extension the address of the published site,
which the sitemap, the social cards and the 404 page need. An `html: baseurl` in
`_config.yml` overrules it, for a site that is published elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.config import Config


def site_address(repository: str) -> str:
    """Return where GitHub or GitLab Pages publish the site of a repository.

    An unknown host gives an empty string: the site then works under any address, but
    has no sitemap, and its 404 page expects to stand at the root.

    >>> site_address("https://github.com/ada/engine")
    'https://ada.github.io/engine/'
    >>> site_address("https://github.com/ada/ada.github.io/")
    'https://ada.github.io/'
    >>> site_address("https://example.org/code/engine")
    ''
    """
    parts = urlsplit(repository)
    path = parts.path.strip("/").removesuffix(".git").split("/")
    pages = {"github.com": "github.io", "gitlab.com": "gitlab.io"}.get(parts.netloc)
    if pages is None or len(path) != 2:
        return ""
    owner, name = path[0].lower(), path[1]
    root = f"https://{owner}.{pages}/"
    return root if name.lower() == f"{owner}.{pages}" else f"{root}{name}/"


def spread(app: Sphinx, config: Config) -> None:
    """Set every option that repeats the address."""
    repository = config.html_theme_options.get("repository_url", "")
    address = config.html_baseurl or site_address(repository)
    config.html_baseurl = address
    config.ogp_site_url = address
    config.notfound_urls_prefix = urlsplit(address).path or "/"


def setup(app: Sphinx) -> dict[str, object]:
    """Connect the extension, ahead of those that read what it sets."""
    app.connect("config-inited", spread, priority=100)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
