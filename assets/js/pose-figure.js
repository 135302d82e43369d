// Eighteen joints as a body: which hang on which, their colours, and what moving, turning and mirroring do to them.
// A figure is { at: 18 places [x, y], seen: 18 booleans }; places are units, 256 to the picture's longer side.
// Hidden joints keep a place, so that they move with their limb and can be shown again.

export const JOINTS = [
  'nose', 'neck', 'right shoulder', 'right elbow', 'right wrist', 'left shoulder', 'left elbow', 'left wrist',
  'right hip', 'right knee', 'right ankle', 'left hip', 'left knee', 'left ankle',
  'right eye', 'left eye', 'right ear', 'left ear',
];
export const NECK = 1;
const HIPS = [8, 11];
const TORSO = [2, 5, 11, 8];

// As controlnet-aux's draw_bodypose has them: the order of limbs decides which lies over which.
export const LIMBS = [
  [1, 2], [1, 5], [2, 3], [3, 4], [5, 6], [6, 7], [1, 8], [8, 9], [9, 10],
  [1, 11], [11, 12], [12, 13], [1, 0], [0, 14], [14, 16], [0, 15], [15, 17],
];
export const COLOURS = [
  [255, 0, 0], [255, 85, 0], [255, 170, 0], [255, 255, 0], [170, 255, 0], [85, 255, 0], [0, 255, 0], [0, 255, 85],
  [0, 255, 170], [0, 255, 255], [0, 170, 255], [0, 85, 255], [0, 0, 255], [85, 0, 255], [170, 0, 255],
  [255, 0, 255], [255, 0, 170], [255, 0, 85],
];
const PARENTS = JOINTS.map((_, joint) => LIMBS.find((limb) => limb[1] === joint)?.[0] ?? null);
const OPPOSITE = JOINTS.map((name) => JOINTS.indexOf(name.replace(/right|left/, (side) => (side === 'left' ? 'right' : 'left'))));
const ALL = JOINTS.map((_, joint) => joint);
const HEAD = [0, 14, 15, 16, 17];
export const isFace = (joint) => HEAD.includes(joint);
export const parentOf = (joint) => PARENTS[joint];

// The storybook figure standing, in its own units of a hundredth of its height, hips at 0, 0.
const STANDING = [
  [0, -43.5], [0, -30], [-9.5, -27], [-13.1, -11.4], [-14.7, 3.5], [9.5, -27], [13.1, -11.4], [14.7, 3.5],
  [-5.5, 0], [-7, 22], [-7.4, 43], [5.5, 0], [7, 22], [7.4, 43], [-3.4, -45.7], [3.4, -45.7], [-9, -43.5], [9, -43.5],
];

/** The joint and all that hang on it. */
export function below(joint) {
  return ALL.filter((other) => {
    for (let at = other; at !== null; at = PARENTS[at]) if (at === joint) return true;
    return false;
  });
}

export const copy = (figure) => ({ at: figure.at.map((place) => [...place]), seen: [...figure.seen] });

/** A figure of 18 places or nulls; those that are null get the place a standing figure of that size has them at. */
export function figureOf(joints) {
  const seen = joints.map(Boolean);
  const known = ALL.filter((joint) => seen[joint]);
  const middle = (places) => [0, 1].map((axis) => places.reduce((sum, place) => sum + place[axis], 0) / places.length);
  const [from, to] = [middle(known.map((joint) => STANDING[joint])), middle(known.map((joint) => joints[joint]))];
  const spread = (places, centre) => Math.sqrt(places.reduce((sum, [x, y]) => sum + (x - centre[0]) ** 2 + (y - centre[1]) ** 2, 0));
  const scale = spread(known.map((joint) => joints[joint]), to) / (spread(known.map((joint) => STANDING[joint]), from) || 1);
  const at = joints.map((place, joint) => (place ? [...place] : STANDING[joint].map((value, axis) => to[axis] + (value - from[axis]) * scale)));
  return { at, seen };
}

/** One that stands with its ankles at `ground`. */
export function standing(x, ground, height) {
  const unit = height / 100;
  return { at: STANDING.map(([across, down]) => [x + across * unit, ground + (down - 43) * unit]), seen: ALL.map(() => true) };
}

// Each of these changes the figure it is given; `start` is how it was before the hand took hold of it.

export function shift(figure, start, joints, dx, dy) {
  for (const joint of joints) figure.at[joint] = [start.at[joint][0] + dx, start.at[joint][1] + dy];
}

export function turn(figure, start, joints, [px, py], angle) {
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  for (const joint of joints) {
    const [x, y] = [start.at[joint][0] - px, start.at[joint][1] - py];
    figure.at[joint] = [px + x * cos - y * sin, py + x * sin + y * cos];
  }
}

export function scale(figure, start, [px, py], factor) {
  figure.at = start.at.map(([x, y]) => [px + (x - px) * factor, py + (y - py) * factor]);
}

/** As a mirror through the middle of the figure shows it: left is right, and it stays where it stands. */
export function mirror(figure) {
  const { left, right } = bounds(figure);
  const { at, seen } = copy(figure);
  figure.at = OPPOSITE.map((other) => [left + right - at[other][0], at[other][1]]);
  figure.seen = OPPOSITE.map((other) => seen[other]);
}

/** Which joints a limb takes along, and about which joint it turns. The head is one; the torso carries all. */
export function partOf([from, to]) {
  if (isFace(to)) return { joints: HEAD, turns: HEAD, about: NECK };
  if (HIPS.includes(to)) return { joints: ALL, turns: HIPS.flatMap(below), about: NECK };
  return { joints: from === NECK ? below(to) : [from, ...below(to)], turns: below(to), about: from };
}

export function bounds(figure) {
  const places = figure.at.filter((_, joint) => figure.seen[joint]);
  const [xs, ys] = [places.map((place) => place[0]), places.map((place) => place[1])];
  return { left: Math.min(...xs), right: Math.max(...xs), top: Math.min(...ys), bottom: Math.max(...ys) };
}

/** The same pose with the size of another figure, its hips above the same place and as low as that reaches. */
export function inPlaceOf(figure, other) {
  const hips = (one) => [0, 1].map((axis) => (one.at[HIPS[0]][axis] + one.at[HIPS[1]][axis]) / 2);
  const length = (one) => Math.hypot(...hips(one).map((value, axis) => value - one.at[NECK][axis]));
  const result = copy(figure);
  scale(result, figure, [0, 0], length(other) / (length(figure) || 1) || 1);
  shift(result, copy(result), ALL, hips(other)[0] - hips(result)[0], bounds(other).bottom - bounds(result).bottom);
  return result;
}

/** Whether figures stand alike, but for what adding and taking away does to a number's last digits. */
export function samePlaces(some, others) {
  const near = (a, b) => Math.abs(a - b) < 1e-3;
  const alike = (a, b) => a.seen.join() === b.seen.join() && a.at.every(([x, y], joint) => near(x, b.at[joint][0]) && near(y, b.at[joint][1]));
  return some.length === others.length && some.every((figure, index) => alike(figure, others[index]));
}

// What is under a hand.

export function awayFromLimb(figure, [from, to], [x, y]) {
  const [[ax, ay], [bx, by]] = [figure.at[from], figure.at[to]];
  const [dx, dy] = [bx - ax, by - ay];
  const part = Math.max(0, Math.min(1, ((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy || 1)));
  return Math.hypot(x - ax - part * dx, y - ay - part * dy);
}

export function isInTorso(figure, [x, y]) {
  if (TORSO.some((joint) => !figure.seen[joint])) return false;
  const corners = TORSO.map((joint) => figure.at[joint]);
  return corners.reduce((inside, [ax, ay], index) => {
    const [bx, by] = corners[(index + 3) % 4];
    return ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax ? !inside : inside;
  }, false);
}

/** OpenPose's JSON, in pixels of a canvas of that size. people: lists of 18 [x, y] or null, in shares. */
export function openPose(people, width, height) {
  const round = (value) => Math.round(value * 100) / 100;
  const row = (person) => person.flatMap((place) => (place ? [round(place[0] * width), round(place[1] * height), 1] : [0, 0, 0]));
  return { canvas_width: width, canvas_height: height, people: people.map((person) => ({ pose_keypoints_2d: row(person) })) };
}
