// What a unit can follow, and which preprocessor and ControlNet go together. No drawing here.

/** The three ways to begin; `preprocessors`: those that fit, the best first. */
export const KINDS = [
  { value: 'edges', title: 'Edges of a picture', preprocessors: ['canny'] },
  { value: 'pose', title: 'A pose', preprocessors: ['openpose', 'openpose_full', 'dwpose'] },
  { value: 'other', title: 'Another map', preprocessors: [] },
];

const list = (value) => (Array.isArray(value) ? value : value ? [value] : []);

/** Whether a ControlNet follows the maps of a preprocessor; one of which nothing is known follows any. */
export function suits(network, preprocessor) {
  const known = list(network?.suits);
  return !known.length || known.includes(preprocessor);
}

/** Which of the three a unit is: as it was chosen, else as what it follows tells. */
export function kindOf(unit) {
  if (unit.kind) return unit.kind;
  if (unit.pose?.length) return 'pose';
  return unit.preprocessor === 'canny' && !(unit.map_image && !unit.image) ? 'edges' : 'other';
}

/** The kind to begin with: the first that some ControlNet knows by name, so that a new unit does something. */
export function firstKind({ networks }) {
  const known = networks.filter((one) => !one.unfit).flatMap((one) => list(one.suits));
  return (KINDS.find((one) => one.preprocessors.some((key) => known.includes(key))) ?? KINDS[0]).value;
}

/** The preprocessor for a kind: the present one where it fits, else the first that is there. */
export function preprocessorFor(kind, present, { preprocessors, networks }) {
  const fitting = KINDS.find((one) => one.value === kind).preprocessors;
  const there = preprocessors.map((one) => one.key);
  if (fitting.length) return fitting.includes(present) ? present : (fitting.find((key) => there.includes(key)) ?? fitting[0]);
  const taken = KINDS.flatMap((one) => one.preprocessors);
  if (present && !taken.includes(present)) return present;
  const free = there.filter((key) => key !== 'none' && !taken.includes(key));
  const followed = free.find((key) => networks.some((one) => !one.unfit && list(one.suits).includes(key)));
  return followed ?? (there.includes('none') || !free.length ? 'none' : free[0]);
}

/** The ControlNet for a preprocessor: the present one where it fits, else the first that does, else any. */
export function networkFor(preprocessor, present, networks) {
  const fit = networks.filter((one) => !one.unfit);
  const now = fit.find((one) => one.key === present);
  if (now && suits(now, preprocessor)) return now.key;
  // One that names the preprocessor knows it better than one that takes anything.
  const named = fit.find((one) => list(one.suits).includes(preprocessor));
  return (named ?? fit.find((one) => suits(one, preprocessor)) ?? now ?? fit[0])?.key ?? present ?? '';
}

/** The preprocessor for a ControlNet that was chosen: the present one where it fits, else the first it suits. */
export function preprocessorOf(network, present) {
  return suits(network, present) ? present : list(network.suits)[0];
}

/** The kind whose preprocessor that is. */
export function kindFor(preprocessor) {
  return (KINDS.find((one) => one.preprocessors.includes(preprocessor)) ?? KINDS.at(-1)).value;
}

/** Options of the list of preprocessors, in their groups. */
export function preprocessorGroups({ preprocessors }, present) {
  const groups = new Map();
  for (const one of preprocessors) {
    const name = one.group ?? '';
    if (!groups.has(name)) groups.set(name, []);
    groups.get(name).push({ value: one.key, title: one.title, why: one.unfit ?? '' });
  }
  if (present && !preprocessors.some((one) => one.key === present)) groups.set('Not known here', [{ value: present, title: present }]);
  return [...groups].map(([title, options]) => ({ title, options }));
}

/** Options of the list of ControlNets: those that suit the preprocessor, the others, and those that cannot. */
export function networkGroups({ networks }, unit) {
  const option = (one) => ({ value: one.key, title: one.title, why: one.unfit ?? '' });
  const fit = networks.filter((one) => !one.unfit);
  const rows = [
    ['', fit.filter((one) => suits(one, unit.preprocessor))],
    ['For other kinds of map', fit.filter((one) => !suits(one, unit.preprocessor))],
    ['Not for this model', networks.filter((one) => one.unfit)],
  ];
  const groups = rows.map(([title, found]) => ({ title, options: found.map(option) })).filter((one) => one.options.length);
  if (!networks.some((one) => one.key === unit.model)) {
    const words = unit.model ? `${unit.model} (not found)` : networks.length ? 'Choose one' : 'There is none yet';
    groups.unshift({ title: '', options: [{ value: unit.model, title: words }] });
  }
  return groups;
}
