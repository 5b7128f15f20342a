//! The drawings: SVG that is made of numbers. Text is text, colours follow the reader's light or dark scheme, and nothing runs in it.

use std::fmt::Write as _;

/// How wide a drawing is.
pub const WIDTH: f64 = 760.0;
/// Where the axis begins; texts stand before it.
pub const LEFT: f64 = 290.0;
/// Where the axis ends; texts stand behind it.
pub const RIGHT: f64 = 680.0;
/// How high a row is.
pub const ROW: f64 = 22.0;
/// How far texts keep from the edge.
const EDGE: f64 = 12.0;

const STYLE: &str = "<style>text{font:12px system-ui,sans-serif;fill:#1f2328}.soft{fill:#59636e}.head{font-weight:600}.paper{fill:#fff}\
    .rule{stroke:#d1d9e0}.ours{fill:#0969da;stroke:#0969da}.stock{fill:#bc4c00;stroke:#bc4c00}.floor{fill:#57606a;stroke:#57606a}\
    .dot{fill-opacity:.45;stroke:none}.endless{fill:none}.bar{fill-opacity:.55;stroke:none}\
    @media(prefers-color-scheme:dark){text{fill:#e6edf3}.soft{fill:#9198a1}.paper{fill:#0d1117}.rule{stroke:#3d444d}\
    .ours{fill:#4493f8;stroke:#4493f8}.stock{fill:#f0883e;stroke:#f0883e}.floor{fill:#9198a1;stroke:#9198a1}.endless{fill:none}}</style>";

/// A text as it stands between the elements of SVG, and of HTML.
#[must_use]
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// A drawing that grows downwards.
#[derive(Debug)]
pub struct Drawing {
    /// What is drawn already.
    pub body: String,
    /// Where the next thing is drawn.
    pub y: f64,
}

impl Default for Drawing {
    fn default() -> Self {
        Self { body: String::new(), y: 10.0 }
    }
}

impl Drawing {
    /// Writes a text here.
    pub fn text(&mut self, x: f64, anchor: &str, class: &str, text: &str) {
        let (y, text) = (self.y + 4.0, escaped(text));
        let _ = writeln!(self.body, r#"<text x="{x:.0}" y="{y:.0}" text-anchor="{anchor}" class="{class}">{text}</text>"#);
    }

    /// Goes on below, under a heading.
    pub fn heading(&mut self, text: &str) {
        self.y += 24.0;
        self.text(EDGE, "start", "head", text);
        self.y += 4.0;
    }

    /// Lines from here up to `top`, each with its text below.
    pub fn axis(&mut self, top: f64, marks: &[(f64, String)]) {
        self.y += 14.0;
        let mut rules = String::new();
        for (x, _) in marks {
            let _ = writeln!(rules, r#"<path class="rule" d="M{x:.1} {top:.0}V{:.0}"/>"#, self.y);
        }
        // Behind what is drawn already.
        self.body = rules + &self.body;
        self.y += 10.0;
        for (x, text) in marks {
            self.text(*x, "middle", "soft", text);
        }
    }

    /// The drawing as a file, or as an element of a page.
    #[must_use]
    pub fn finish(self, title: &str) -> String {
        let (height, title) = (self.y + 16.0, escaped(title));
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" role=\"img\"><title>{title}</title>\n{STYLE}\n\
             <rect class=\"paper\" width=\"{WIDTH:.0}\" height=\"{height:.0}\"/>\n{}</svg>\n",
            self.body
        )
    }
}

/// A failover, to be drawn step by step.
#[derive(Clone, Debug)]
pub struct Story {
    /// What stands above it.
    pub heading: String,
    /// The class of its colour: `ours`, `stock`, `floor`.
    pub class: &'static str,
    /// When each step had been done, milliseconds, and its name.
    pub steps: Vec<(f64, String)>,
}

/// Failovers step by step, under one scale; `None` when nothing is to be drawn.
#[must_use]
pub fn of_stories(title: &str, stories: &[Story]) -> Option<String> {
    let end = stories.iter().flat_map(|story| &story.steps).map(|(at, _)| *at).fold(0.0, f64::max);
    if end <= 0.0 {
        return None;
    }
    let mut drawing = Drawing::default();
    let top = drawing.y + 14.0;
    let x = |ms: f64| LEFT + (RIGHT - LEFT) * (ms / end).clamp(0.0, 1.0);
    for story in stories {
        drawing.heading(&story.heading);
        let mut before = 0.0;
        for (at, what) in &story.steps {
            drawing.y += ROW;
            drawing.text(EDGE, "start", "", what);
            let (from, to) = (x(before), x(*at));
            let _ = writeln!(
                drawing.body,
                r#"<g class="{}"><rect class="bar" x="{from:.1}" y="{:.1}" width="{:.1}" height="10"/><circle cx="{to:.1}" cy="{:.1}" r="3"/></g>"#,
                story.class,
                drawing.y - 5.0,
                (to - from).max(0.0),
                drawing.y
            );
            drawing.text(WIDTH - EDGE, "end", "soft", &format!("{at:.0} ms"));
            before = at.max(before);
        }
    }
    let steps = [10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0];
    let step = steps.into_iter().find(|step| end / step <= 6.0).unwrap_or(end / 5.0);
    let marks: Vec<(f64, String)> =
        (0..).map(|n| f64::from(n) * step).take_while(|ms| *ms <= end).map(|ms| (x(ms), format!("{ms:.0} ms"))).collect();
    drawing.axis(top, &marks);
    Some(drawing.finish(title))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_step_is_called_the_drawing_is_well_formed() {
        let steps = vec![(10.0, "</text><script>alert(1)</script>".to_owned()), (25_000.0, "a & b \"c\" 'd'".to_owned())];
        let svg = of_stories("<b>", &[Story { heading: "</svg>".to_owned(), class: "ours", steps }]).unwrap();
        let document = roxmltree::Document::parse(&svg).unwrap();
        assert!(!document.descendants().any(|n| n.has_tag_name("script") || n.has_tag_name("b")));
        assert!(document.descendants().any(|n| n.text() == Some("a & b \"c\" 'd'")));
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert!(of_stories("t", &[]).is_none());
        assert!(of_stories("t", &[Story { heading: String::new(), class: "ours", steps: Vec::new() }]).is_none());
    }
}
