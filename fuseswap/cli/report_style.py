"""How the page of ``fuseswap report`` looks, in light and in dark, from 320 pixels of width on.

Classes are those of ``drawing.py`` and its users.  Areas differ by pattern as well as by colour.
"""

from __future__ import annotations

from typing import Final

STYLE: Final = """\
:root {
  --paper: #ffffff; --card: #f6f8fa; --ink: #1f2328; --dim: #57606a; --grid: #d0d7de;
  --one: #0a5fc2; --two: #8a5a00; --bad: #b3261e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #0d1117; --card: #161b22; --ink: #e6edf3; --dim: #9aa4af; --grid: #3d444d;
    --one: #6cb2ff; --two: #e3a939; --bad: #ff8a80;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 12px; max-width: 1320px; background: var(--paper); color: var(--ink);
  font: 15px/1.45 system-ui, sans-serif; overflow-wrap: anywhere;
}
h1 { font-size: 24px; margin: 4px 0; }
h2 { font-size: 20px; margin: 28px 0 4px; border-top: 1px solid var(--grid); padding-top: 12px; }
h3 { font-size: 17px; margin: 20px 0 8px; }
h4 { font-size: 15px; margin: 0 0 6px; }
p { margin: 4px 0; }
header p, .standing { color: var(--dim); }
.told { margin: 8px 0; padding: 8px 12px 8px 28px; border-left: 4px solid var(--bad); }
.pictures {
  display: grid; gap: 12px; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 380px), 1fr));
}
figure {
  margin: 0; padding: 12px; min-width: 0; background: var(--card); border: 1px solid var(--grid);
  border-radius: 8px;
}
figure > svg { display: block; width: 100%; height: auto; overflow: visible; }
figcaption { margin-top: 8px; font-size: 14px; color: var(--dim); }
details { margin-top: 8px; font-size: 14px; }
summary { cursor: pointer; }
.wide { max-width: 100%; overflow-x: auto; }
table { border-collapse: collapse; margin-top: 4px; font-variant-numeric: tabular-nums; }
th, td { padding: 2px 12px 2px 0; text-align: left; overflow-wrap: normal; }
th { font-weight: 600; border-bottom: 1px solid var(--grid); }
pre { margin: 0; font-size: 12px; overflow-wrap: normal; }
.key {
  display: flex; flex-wrap: wrap; gap: 2px 14px; list-style: none; margin: 0 0 8px; padding: 0;
  font-size: 14px;
}
.key svg { width: 14px; height: 14px; vertical-align: -2px; }
.patterns { position: absolute; width: 0; height: 0; }
svg text { fill: var(--ink); font-family: system-ui, sans-serif; }
svg .number { font-variant-numeric: tabular-nums; font-weight: 600; }
svg .dim { fill: var(--dim); }
.solid { fill: var(--one); }
.hatched { fill: url(#hatching); stroke: var(--two); stroke-width: 1; }
.dotted { fill: url(#dots); stroke: var(--two); stroke-width: 1; }
.frame { fill: none; stroke: var(--dim); stroke-width: 1; }
.axis { stroke: var(--dim); stroke-width: 1; fill: none; }
.grid { stroke: var(--grid); stroke-width: 1; fill: none; stroke-dasharray: 2 3; }
.outline { fill: none; stroke: var(--grid); stroke-width: 1; }
.line { fill: none; stroke: var(--one); stroke-width: 1.8; stroke-linejoin: round; }
.line.dashed { stroke: var(--two); stroke-dasharray: 5 3; }
.compressed { fill: var(--one); }
.raw { fill: none; stroke: var(--one); stroke-width: 1.3; }
.same { fill: var(--dim); }
.tier { fill: none; stroke: var(--two); stroke-width: 1.6; }
.elsewhere { fill: var(--two); }
.lost { fill: none; stroke: var(--bad); stroke-width: 1.8; }
.hatch { stroke: var(--two); stroke-width: 2.2; }
.dot { fill: var(--two); }
@media print { figure { break-inside: avoid; } }
"""

# A document's patterns are everybody's; none of it is seen itself.
PATTERNS: Final = """\
<svg class="patterns" aria-hidden="true"><defs>
<pattern id="hatching" width="5" height="5" patternUnits="userSpaceOnUse"\
 patternTransform="rotate(45)"><path class="hatch" d="M1 0V5"/></pattern>
<pattern id="dots" width="4" height="4" patternUnits="userSpaceOnUse">\
<circle class="dot" cx="2" cy="2" r="1"/></pattern>
</defs></svg>
"""
