"""Theme of the studio: one accent colour on warm greys, with system fonts. Nothing is loaded from other hosts."""

from __future__ import annotations

from importlib import resources

from gradio.themes import Base
from gradio.themes.utils import fonts

SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")
MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "Liberation Mono", "monospace")

SCRIPTS = ("page", "toasts", "drop", "enlarge")

HEAD = '<link rel="icon" href="/favicon.ico" type="image/svg+xml"><meta name="color-scheme" content="light dark">'


def make_theme() -> Base:
    """Return the theme: teal for controls, stone for the rest, in light and dark mode."""
    theme = Base(
        primary_hue="teal",
        secondary_hue="teal",
        neutral_hue="stone",
        radius_size="md",
        font=[fonts.Font(name) for name in SANS],
        font_mono=[fonts.Font(name) for name in MONO],
    )
    return theme.set(
        body_text_color_subdued="*neutral_600",  # neutral_400, the default, has a contrast of 2.4 to 1
        body_text_color_subdued_dark="*neutral_400",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_padding="0px",
        block_shadow="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_title_text_size="0.875rem",
        block_title_text_weight="500",
        block_title_text_color="*neutral_700",
        block_title_text_color_dark="*neutral_300",
        block_info_text_size="0.8125rem",
        input_background_fill="white",
        input_background_fill_dark="*neutral_900",
        input_border_color="*neutral_300",
        input_border_width="1px",
        input_border_color_focus="*primary_600",
        input_shadow_focus="0 0 0 2px *primary_200",
        input_shadow_focus_dark="0 0 0 2px *primary_800",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
        button_primary_text_color="white",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_background_fill_hover_dark="*neutral_700",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_600",
        button_border_width="1px",
        button_primary_border_color="*primary_700",
        slider_color="*primary_700",
        slider_color_dark="*primary_500",
        checkbox_background_color_selected="*primary_700",
        checkbox_border_color_selected="*primary_700",
    )


def style() -> str:
    """Return the style sheet of the page."""
    return beside("style.css")


def scripts() -> str:
    """Return the JavaScript of the page, except that of single controls."""
    return "\n".join(beside(f"{name}.js") for name in SCRIPTS)


def icon() -> str:
    """Return the page's icon, an SVG."""
    return beside("icon.svg")


def beside(name: str) -> str:
    """Read a file of this folder."""
    return resources.files("nextscale.web.studio").joinpath(name).read_text(encoding="utf-8")
