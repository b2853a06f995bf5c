"""The page's one style sheet: light, dark and print; system fonts, nothing loaded."""

CSS = """
:root{color-scheme:light dark;--bg:#f6f7f8;--card:#fff;--ink:#1b1f24;--muted:#5b636d;--line:#dfe3e8;
--accent:#0072b2;--soft:#eaf3f9;--warn:#8a4b00;--warnsoft:#fdf3e3;--paper:#fff}
@media (prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1c2024;--ink:#e7eaee;--muted:#a1aab4;--line:#33393f;
--accent:#6cb8e6;--soft:#1b2c38;--warn:#f0bd7d;--warnsoft:#30271a;--paper:#eef0f2}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","DejaVu Sans","Noto Sans CJK SC",sans-serif}
main{max-width:1040px;margin:0 auto;padding:32px 24px 64px}
h1{font-size:26px;line-height:1.25;margin:0 0 8px;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:20px;line-height:1.3;margin:48px 0 4px;padding-top:20px;border-top:2px solid var(--ink);
overflow-wrap:anywhere}
h3{font-size:15px;margin:28px 0 8px}
p{margin:0 0 12px;max-width:76ch}
.eyebrow{color:var(--muted);font-size:12px;letter-spacing:.08em;text-transform:uppercase;margin:0 0 6px}
.lead{font-size:17px}
.quiet,caption{color:var(--muted);font-size:13px}
nav{display:flex;flex-wrap:wrap;gap:4px 20px;margin:16px 0 24px;font-size:14px}
a{color:var(--accent);text-underline-offset:3px}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(225px,1fr));gap:12px;margin:8px 0 20px}
.card{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:14px 16px;overflow-wrap:anywhere}
.card b{display:block;font-size:28px;line-height:1.2;font-weight:650;font-variant-numeric:tabular-nums}
.card span{display:block;color:var(--muted);font-size:13px}
.card .name{color:var(--ink);font-weight:650;font-size:14px}
.note{border-left:4px solid var(--accent);background:var(--soft);padding:12px 18px;border-radius:0 6px 6px 0;
margin:0 0 14px}
.note.warn{border-color:var(--warn);background:var(--warnsoft)}
.note h3{margin:0 0 4px}.note ul{margin:0;padding-left:18px}.note li{margin:3px 0;max-width:86ch}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:6px;margin:8px 0 16px}
table{border-collapse:collapse;width:100%;font-size:14px;font-variant-numeric:tabular-nums}
caption{text-align:left;padding:10px 14px 2px}
th,td{text-align:left;padding:7px 14px;border-top:1px solid var(--line);vertical-align:top;overflow-wrap:break-word}
thead th{border-top:0;color:var(--muted);font-weight:600;font-size:13px;vertical-align:bottom}
tbody th{font-weight:400;min-width:9em}
.n{text-align:right;white-space:nowrap}thead .n{white-space:normal}
tr.strong th,tr.strong td{background:var(--soft);font-weight:650}
tr.strong th{box-shadow:inset 4px 0 0 var(--accent)}
small{display:block;color:var(--muted);font-size:12px;font-weight:400}
dl{margin:8px 0 16px;display:grid;gap:6px}
dl div{display:grid;grid-template-columns:190px 1fr;gap:16px}
dt{color:var(--muted)}dd{margin:0;overflow-wrap:anywhere}
.figures .scroll{margin:0}
.figures{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:12px;align-items:start;margin:8px 0}
figure{margin:0;background:var(--paper);border:1px solid var(--line);border-radius:6px;padding:10px;overflow:hidden}
img{display:block;width:100%;height:auto;mix-blend-mode:multiply}
code,pre{font:13px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
pre{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:12px 14px;margin:8px 0 16px;
white-space:pre-wrap;overflow-wrap:anywhere}
@media (max-width:720px){.figures{grid-template-columns:1fr}dl div{grid-template-columns:1fr;gap:0}
main{padding:20px 14px 40px}}
@media print{@page{size:A4;margin:16mm 14mm}
:root{--bg:#fff;--card:#fff;--ink:#000;--muted:#444;--line:#bbb;--accent:#00598b;--soft:#f0f4f7;--warn:#8a4b00;
--warnsoft:#fdf6ea;--paper:#fff}
body{font-size:9.5pt}table{font-size:8.5pt}th,td{padding:4px 9px}small{font-size:7.5pt}
h2{margin-top:24px}dl,dl div{gap:3px}.figures .scroll{break-inside:avoid}
main{max-width:none;padding:0}nav{display:none}h2,h3{break-after:avoid}
h2.page{break-before:page}figure,tr,.card,.note,dl div{break-inside:avoid}.scroll{overflow:visible}
*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
""".strip()
