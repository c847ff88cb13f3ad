//! A map of attenuation (nepers: the natural logarithm of how much weaker the beam gets) that shapes are painted onto.
//!
//! Shapes are given in the patient's millimetres, so that one plan can be drawn at any pixel size. Painting adds:
//! a beam that passes two bones is weakened by both. Thin lines keep their mass when pixels are larger than they are.

/// A point in the patient's millimetres: x to the image's right, y down, the origin at the middle of the sacrum's top.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct P(pub f32, pub f32);

impl P {
    pub(super) fn plus(self, x: f32, y: f32) -> Self {
        Self(self.0 + x, self.1 + y)
    }

    /// The point `t` of the way to `other`.
    pub(super) fn toward(self, other: Self, t: f32) -> Self {
        Self(
            self.0 + (other.0 - self.0) * t,
            self.1 + (other.1 - self.1) * t,
        )
    }

    /// `along` the direction `angle` (radians, clockwise on the image from +x) and `across` it.
    pub(super) fn step(self, angle: f32, along: f32, across: f32) -> Self {
        let (sin, cos) = angle.sin_cos();
        Self(
            self.0 + along * cos - across * sin,
            self.1 + along * sin + across * cos,
        )
    }
}

/// Where the patient lies on the detector.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// Pixels a millimetre.
    pub scale: f32,
    /// Rotation of the patient on the detector, radians clockwise.
    pub turn: f32,
    /// -1 where left and right are exchanged, else 1.
    pub mirror: f32,
    /// The pixel at which the patient's origin lies.
    pub origin: P,
}

impl Frame {
    fn to_pixels(self, p: P) -> P {
        let (sin, cos) = self.turn.sin_cos();
        let x = p.0 * self.mirror;
        P(
            self.origin.0 + self.scale * (x * cos - p.1 * sin),
            self.origin.1 + self.scale * (x * sin + p.1 * cos),
        )
    }

    fn to_mm(self, x: f32, y: f32) -> P {
        let (sin, cos) = self.turn.sin_cos();
        let (x, y) = (
            (x - self.origin.0) / self.scale,
            (y - self.origin.1) / self.scale,
        );
        P((x * cos + y * sin) * self.mirror, -x * sin + y * cos)
    }
}

/// How a tube weakens the beam: hollow ones (bones) have a wall, solid ones (rods) have none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tube {
    /// Radius at the start and at the end, mm.
    pub radius: (f32, f32),
    /// Wall thickness, mm.
    pub wall: f32,
    /// Attenuation of the wall and of the core, nepers a millimetre.
    pub mu: (f32, f32),
}

/// The attenuation map.
#[derive(Debug)]
pub(super) struct Canvas {
    pub columns: usize,
    pub rows: usize,
    pub frame: Frame,
    /// Nepers, row by row.
    pub data: Vec<f32>,
    /// Nearest squared distance and position along the line, for the tube being painted.
    scratch: Vec<(f32, f32)>,
}

impl Canvas {
    pub(super) fn new(columns: usize, rows: usize, frame: Frame) -> Self {
        Self {
            columns,
            rows,
            frame,
            data: vec![0.0; columns * rows],
            scratch: Vec::new(),
        }
    }

    /// Size of a pixel, mm.
    pub(super) fn pixel(&self) -> f32 {
        1.0 / self.frame.scale
    }

    /// Changes every pixel by `f(point in mm, value)`.
    pub(super) fn everywhere(&mut self, f: impl Fn(P, f32) -> f32) {
        let (origin, dx, dy) = self.steps();
        for (row, line) in self.data.chunks_exact_mut(self.columns).enumerate() {
            let mut p = P(origin.0 + dy.0 * row as f32, origin.1 + dy.1 * row as f32);
            for value in line {
                *value = f(p, *value);
                p = p.plus(dx.0, dx.1);
            }
        }
    }

    /// The millimetres of the first pixel's middle, and the steps to the next pixel and the next row.
    fn steps(&self) -> (P, P, P) {
        let at = |x: f32, y: f32| self.frame.to_mm(x, y);
        let (o, x, y) = (at(0.5, 0.5), at(1.5, 0.5), at(0.5, 1.5));
        (o, P(x.0 - o.0, x.1 - o.1), P(y.0 - o.0, y.1 - o.1))
    }

    /// Pixel rectangle (x0, x1, y0, y1; ends excluded) that holds these points with `margin` mm around; None off canvas.
    fn bounds(&self, points: &[P], margin: f32) -> Option<(usize, usize, usize, usize)> {
        let (mut low, mut high) = (P(f32::MAX, f32::MAX), P(f32::MIN, f32::MIN));
        for &point in points {
            let p = self.frame.to_pixels(point);
            low = P(low.0.min(p.0), low.1.min(p.1));
            high = P(high.0.max(p.0), high.1.max(p.1));
        }
        let margin = margin * self.frame.scale + 1.0;
        let clip = |v: f32, end: usize| v.clamp(0.0, end as f32) as usize;
        let (x0, x1) = (
            clip(low.0 - margin, self.columns),
            clip(high.0 + margin + 1.0, self.columns),
        );
        let (y0, y1) = (
            clip(low.1 - margin, self.rows),
            clip(high.1 + margin + 1.0, self.rows),
        );
        (x0 < x1 && y0 < y1).then_some((x0, x1, y0, y1))
    }

    /// Adds `f(u, v)` over a rectangle around `centre`, turned by `angle`; u runs along the angle, v across it, in mm.
    pub(super) fn patch(
        &mut self,
        centre: P,
        angle: f32,
        half: (f32, f32),
        f: impl Fn(f32, f32) -> f32,
    ) {
        let corners = [(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)]
            .map(|(a, b)| centre.step(angle, a * half.0, b * half.1));
        let Some((x0, x1, y0, y1)) = self.bounds(&corners, 0.0) else {
            return;
        };
        let (sin, cos) = angle.sin_cos();
        let (origin, dx, dy) = self.steps();
        let local = |p: P| (p.0 * cos + p.1 * sin, -p.0 * sin + p.1 * cos);
        let (step_u, step_v) = local(dx);
        for row in y0..y1 {
            let p = P(
                origin.0 + dx.0 * x0 as f32 + dy.0 * row as f32 - centre.0,
                origin.1 + dx.1 * x0 as f32 + dy.1 * row as f32 - centre.1,
            );
            let (mut u, mut v) = local(p);
            for value in &mut self.data[row * self.columns + x0..row * self.columns + x1] {
                if u.abs() <= half.0 && v.abs() <= half.1 {
                    *value += f(u, v);
                }
                u += step_u;
                v += step_v;
            }
        }
    }

    /// Adds an ellipsoid: half axes `half`, `depth` mm thick in the middle, `mu` nepers a millimetre.
    pub(super) fn ellipsoid(
        &mut self,
        centre: P,
        angle: f32,
        half: (f32, f32),
        depth: f32,
        mu: f32,
    ) {
        self.patch(centre, angle, half, |u, v| {
            let q = 1.0 - (u / half.0).powi(2) - (v / half.1).powi(2);
            if q > 0.0 { depth * q.sqrt() * mu } else { 0.0 }
        });
    }

    /// Adds an ellipse with soft borders: `value` nepers in the middle, falling off like a bell.
    pub(super) fn blob(&mut self, centre: P, angle: f32, half: (f32, f32), value: f32) {
        self.patch(centre, angle, (half.0 * 2.2, half.1 * 2.2), |u, v| {
            value * (-((u / half.0).powi(2) + (v / half.1).powi(2)) * 1.2).exp()
        });
    }

    /// Adds a tube along `line`. Points must be close enough together that the line looks smooth.
    pub(super) fn tube(&mut self, line: &[P], tube: Tube) {
        let radius = tube.radius.0.max(tube.radius.1);
        let Some((x0, x1, y0, y1)) = self.bounds(line, radius) else {
            return;
        };
        let width = x1 - x0;
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        scratch.resize(width * (y1 - y0), (f32::MAX, 0.0));
        let (origin, dx, dy) = self.steps();
        let segments = (line.len() - 1) as f32;
        for (number, pair) in line.windows(2).enumerate() {
            let (a, b) = (pair[0], pair[1]);
            let Some((sx0, sx1, sy0, sy1)) = self.bounds(pair, radius) else {
                continue;
            };
            let (ex, ey) = (b.0 - a.0, b.1 - a.1);
            let inverse = 1.0 / (ex * ex + ey * ey).max(1e-9);
            for row in sy0..sy1 {
                let mut p = P(
                    origin.0 + dx.0 * sx0 as f32 + dy.0 * row as f32 - a.0,
                    origin.1 + dx.1 * sx0 as f32 + dy.1 * row as f32 - a.1,
                );
                for near in
                    &mut scratch[(row - y0) * width + sx0 - x0..(row - y0) * width + sx1 - x0]
                {
                    let t = ((p.0 * ex + p.1 * ey) * inverse).clamp(0.0, 1.0);
                    let (qx, qy) = (p.0 - t * ex, p.1 - t * ey);
                    let distance = qx * qx + qy * qy;
                    if distance < near.0 {
                        *near = (distance, (number as f32 + t) / segments);
                    }
                    p = p.plus(dx.0, dx.1);
                }
            }
        }
        // A tube thinner than a pixel is painted as wide as the pixel and as much weaker.
        let least = 0.6 * self.pixel();
        for (row, nears) in (y0..y1).zip(scratch.chunks_exact(width)) {
            let values = &mut self.data[row * self.columns + x0..row * self.columns + x1];
            for (value, &(distance, t)) in values.iter_mut().zip(nears) {
                let true_radius = tube.radius.0 + (tube.radius.1 - tube.radius.0) * t;
                let r = true_radius.max(least);
                if distance >= r * r {
                    continue;
                }
                let outer = (r * r - distance).sqrt();
                let hollow = (r - tube.wall).max(0.0).powi(2) - distance;
                let inner = if hollow > 0.0 { hollow.sqrt() } else { 0.0 };
                let through = 2.0 * ((outer - inner) * tube.mu.0 + inner * tube.mu.1);
                *value += through * (true_radius / r).powi(2);
            }
        }
        self.scratch = scratch;
    }

    /// Adds a flat bone: `body` nepers inside the polygon, `rim` more at its border, falling off over `rim_width` mm.
    pub(super) fn plate(&mut self, polygon: &[P], body: f32, rim: f32, rim_width: f32) {
        let Some((x0, x1, y0, y1)) = self.bounds(polygon, 1.0) else {
            return;
        };
        let (origin, dx, dy) = self.steps();
        let soft = self.pixel().max(0.6);
        let reach = rim_width * 4.0 + soft;
        for row in y0..y1 {
            let mut p = P(
                origin.0 + dx.0 * x0 as f32 + dy.0 * row as f32,
                origin.1 + dx.1 * x0 as f32 + dy.1 * row as f32,
            );
            for value in &mut self.data[row * self.columns + x0..row * self.columns + x1] {
                let distance = distance_inside(polygon, p, reach);
                if distance > -soft {
                    let cover = ((distance + soft) / (2.0 * soft)).min(1.0);
                    *value += cover * (body + rim * (-distance.max(0.0) / rim_width).exp());
                }
                p = p.plus(dx.0, dx.1);
            }
        }
    }
}

/// Distance from `p` to the polygon's border, mm: positive inside, negative outside, cut off at `reach`.
fn distance_inside(polygon: &[P], p: P, reach: f32) -> f32 {
    let mut nearest = reach * reach;
    let mut inside = false;
    let mut a = polygon[polygon.len() - 1];
    for &b in polygon {
        let (ex, ey, px, py) = (b.0 - a.0, b.1 - a.1, p.0 - a.0, p.1 - a.1);
        if (a.1 > p.1) != (b.1 > p.1) && px < ex * py / ey {
            inside = !inside;
        }
        let t = ((px * ex + py * ey) / (ex * ex + ey * ey).max(1e-9)).clamp(0.0, 1.0);
        let (qx, qy) = (px - t * ex, py - t * ey);
        nearest = nearest.min(qx * qx + qy * qy);
        a = b;
    }
    if inside {
        nearest.sqrt()
    } else {
        -nearest.sqrt()
    }
}

/// A smooth line through `points` (Catmull-Rom), `steps` pieces between each two.
pub(super) fn smooth(points: &[P], steps: usize, closed: bool) -> Vec<P> {
    let n = points.len();
    let at = |i: isize| {
        if closed {
            points[i.rem_euclid(n as isize) as usize]
        } else {
            points[i.clamp(0, n as isize - 1) as usize]
        }
    };
    let spans = if closed { n } else { n - 1 };
    let mut line = Vec::with_capacity(spans * steps + 1);
    for i in 0..spans as isize {
        let (a, b, c, d) = (at(i - 1), at(i), at(i + 1), at(i + 2));
        let blend = |a: f32, b: f32, c: f32, d: f32, t: f32| {
            let (t2, t3) = (t * t, t * t * t);
            0.5 * (2.0 * b
                + (c - a) * t
                + (2.0 * a - 5.0 * b + 4.0 * c - d) * t2
                + (3.0 * b - a - 3.0 * c + d) * t3)
        };
        for step in 0..steps {
            let t = step as f32 / steps as f32;
            line.push(P(
                blend(a.0, b.0, c.0, d.0, t),
                blend(a.1, b.1, c.1, d.1, t),
            ));
        }
    }
    if !closed {
        line.push(points[n - 1]);
    }
    line
}

/// A bell-shaped line `width` mm thick at `distance` mm from its middle, on pixels of `pixel` mm: keeps its mass.
pub(super) fn ridge(distance: f32, width: f32, pixel: f32) -> f32 {
    let drawn = (width * width + 0.36 * pixel * pixel).sqrt();
    (-(distance / drawn).powi(2) * 2.0).exp() * width / drawn
}

/// 0 below `low`, 1 above `high`, smooth in between.
pub(super) fn rise(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}

/// Reads a table of (place, value) with smooth steps between the places; flat beyond the ends.
pub(super) fn table(rows: &[(f32, f32)], place: f32) -> f32 {
    let mut last = rows[0];
    for &row in rows {
        if place < row.0 {
            return if row.0 > last.0 {
                last.1 + (row.1 - last.1) * rise(last.0, row.0, place)
            } else {
                row.1
            };
        }
        last = row;
    }
    last.1
}

/// A smooth contour through (place, value) rows, read off quickly: sampled every millimetre, flat beyond the ends.
#[derive(Debug, Clone)]
pub(super) struct Profile {
    start: f32,
    values: Vec<f32>,
}

impl Profile {
    /// `rows` must be in rising order of place.
    pub(super) fn new(rows: &[(f32, f32)]) -> Self {
        let (first, last) = (rows[0].0, rows[rows.len() - 1].0);
        let slope = |i: usize| {
            let (a, b) = (rows[i.saturating_sub(1)], rows[(i + 1).min(rows.len() - 1)]);
            (b.1 - a.1) / (b.0 - a.0).max(1e-3)
        };
        let mut at = 0;
        let values = (0..=(last - first).max(1.0) as usize + 1)
            .map(|mm| {
                let place = first + mm as f32;
                while at + 2 < rows.len() && place > rows[at + 1].0 {
                    at += 1;
                }
                let (a, b) = (rows[at], rows[at + 1]);
                let span = (b.0 - a.0).max(1e-3);
                let t = ((place - a.0) / span).clamp(0.0, 1.0);
                let (t2, t3) = (t * t, t * t * t);
                // Cubic Hermite: passes through the rows without the steps that smoothing piece by piece leaves.
                (2.0 * t3 - 3.0 * t2 + 1.0) * a.1
                    + (t3 - 2.0 * t2 + t) * span * slope(at)
                    + (3.0 * t2 - 2.0 * t3) * b.1
                    + (t3 - t2) * span * slope(at + 1)
            })
            .collect();
        Self {
            start: first,
            values,
        }
    }

    /// The first row's place.
    pub(super) fn start(&self) -> f32 {
        self.start
    }

    /// The value at `place`.
    pub(super) fn at(&self, place: f32) -> f32 {
        let x = (place - self.start).clamp(0.0, self.values.len() as f32 - 1.001);
        let (i, t) = (x as usize, x.fract());
        self.values[i] + (self.values[i + 1] - self.values[i]) * t
    }
}

/// The rounding of an edge: 0 at the edge, 1 from one unit inside on, round like a circle in between.
pub(super) fn round_edge(inside: f32) -> f32 {
    let out = 1.0 - inside.clamp(0.0, 1.0);
    (1.0 - out * out).sqrt()
}
