/**
 * Text against text, in Unicode (PS3.4 C.2.2.2.1, C.2.2.2.4). Never a RegExp made from a key: `*a*a*a*…b` would take for ever;
 * the matcher below is linear in key × value at the worst.
 */
export type TextMatch = (value: string) => boolean;

/** Wild Card Matching: `*` any sequence, also an empty one; `?` one character, which is one code point. */
export function wildcard(pattern: string): TextMatch {
  const p = letters(pattern.replace(/\*+/g, '*'));
  return (value) => {
    const v = letters(value);
    let [i, j, star, mark] = [0, 0, -1, 0];
    while (i < v.length) {
      if (p[j] === '*') [star, mark, j] = [j, i, j + 1];
      else if (j < p.length && (p[j] === '?' || p[j] === v[i])) [i, j] = [i + 1, j + 1];
      else if (star >= 0)
        [i, j] = [++mark, star + 1]; // let the last star take one more: earlier stars need no second try
      else return false;
    }
    while (p[j] === '*') j++;
    return j === p.length;
  };
}

const letters = (text: string): ArrayLike<string> => (/[\ud800-\udfff]/.test(text) ? Array.from(text) : text);

export const hasWildcard = (text: string): boolean => text.includes('*') || text.includes('?');

/** `*` alone, however often, is Universal Matching (C.2.2.2.4, note 1). */
export const isUniversal = (text: string): boolean => /^ *\**[ \0]*$/.test(text);

/** Whether a key asks for nothing: of a name also `*^*` and `*=*`, in which every component may be anything. */
export const asksNothing = (vr: string, text: string): boolean =>
  vr === 'PN' ? nameGroups(text).every((group) => /^(\*+(\^+\*+)*)?$/.test(group)) : isUniversal(text);

/** One form for equal text: what looks the same is the same (é may come as one code point or two). */
export const canonical = (text: string): string => text.normalize('NFC');

/** Case-insensitive form. Upper case, because it also joins ß with SS and ς with σ. */
export const foldCase = (text: string): string => text.normalize('NFC').toUpperCase().normalize('NFC');

/** For fuzzy matching: without case, accents and the letters that only one language tells apart. */
export function foldAccents(text: string): string {
  return foldCase(text)
    .normalize('NFKD')
    .replace(/\p{Mn}+/gu, '')
    .replace(/[ØÆŒŁĐÞÐĦŊIİ]/g, (letter) => LETTERS[letter] ?? letter);
}
const LETTERS: Record<string, string> = {
  Ø: 'O',
  Æ: 'AE',
  Œ: 'OE',
  Ł: 'L',
  Đ: 'D',
  Ð: 'D',
  Þ: 'TH',
  Ħ: 'H',
  Ŋ: 'N',
  İ: 'I',
};

/** Component groups without what does not count: padding of components, empty trailing components and groups (PS3.5 §6.2.1). */
export function nameGroups(text: string): string[] {
  const groups = text.split('=').slice(0, 3).map(trimGroup);
  while (groups.length > 1 && groups.at(-1) === '') groups.pop();
  return groups;
}

export function trimGroup(group: string): string {
  return foldCase(
    group
      .split('^')
      .map((component) => component.replace(/^[ \0]+|[ \0]+$/g, ''))
      .join('^')
      .replace(/\^+$/, ''),
  );
}

/**
 * Person Name, without regard to case. A key of one group is looked for in every group (whoever types 山田 or やまだ means the
 * name as it is written so); a key of several groups wants each of its non-empty groups in its own place.
 */
export function personName(key: string): (groups: readonly string[]) => boolean {
  const wanted = nameGroups(key).map((group) =>
    group === '' || asksNothing('PN', group)
      ? undefined
      : hasWildcard(group)
        ? nameWildcard(group)
        : (value: string) => value === group,
  );
  if (wanted.length === 1) {
    const [match] = wanted;
    return match ? (groups) => groups.some((group) => group !== '' && match(group)) : () => true;
  }
  return (groups) => wanted.every((match, at) => match === undefined || match(groups[at] ?? ''));
}

/** `DOE^*` also means DOE: the empty components behind it are written or not (PS3.5 §6.2.1). */
function nameWildcard(group: string): TextMatch {
  const tests = [wildcard(group)];
  for (let base = group; /\^\*+$/.test(base); ) tests.push(wildcard((base = base.replace(/\^+\*+$/, ''))));
  return (value) => tests.some((test) => test(value));
}

/**
 * Fuzzy semantic matching (PS3.4 C.2.2.2.1.1), as our conformance statement describes it. Every word of the key finds a word of
 * the name, in whichever component or group: the same or the beginning of it without case and accents, or a word that sounds
 * like it, or (from five letters on) one that a single slip of the finger makes of it. Whatever matches literally also matches fuzzily.
 */
export function fuzzyName(key: string): (groups: readonly string[]) => boolean {
  const literal = personName(key);
  const wanted = words(key).map((word) => (hasWildcard(word) ? wildcard(word) : fuzzyWord(word)));
  return (groups) => {
    if (literal(groups)) return true;
    if (wanted.length === 0) return false;
    const have = groups.flatMap(words);
    return wanted.every((match) => have.some(match));
  };
}

/** `O'Brien-Smith, Jean` → OBRIEN SMITH JEAN. */
export function words(text: string): string[] {
  return foldAccents(text.replace(/['’`´.]/g, ''))
    .split(/[\^=,\s\0-]+/u)
    .filter((word) => word !== '' && word !== '*');
}

function fuzzyWord(wanted: string): TextMatch {
  const sound = soundOf(wanted);
  // One consonant after the first letter tells too little in a short word: JOHN is not JANE.
  const telling = wanted.length >= 5 || /[1-9]{2}/.test(sound);
  return (word) =>
    word.startsWith(wanted) ||
    (sound !== '' && telling && soundOf(word) === sound) ||
    (wanted.length >= 5 && Math.abs(word.length - wanted.length) <= 1 && oneSlip(wanted, word));
}

const DIGRAPHS: readonly (readonly [RegExp, string])[] = [
  [/PH/g, 'F'],
  [/^PF/, 'F'],
  [/^KN|^GN/, 'N'],
  [/^WR/, 'R'],
  [/^(?:TSCH|TCH|CZ|CH)/, 'C'],
  [/^C(?=[EIY])/, 'S'],
  [/^[CQ]/, 'K'],
  [/^[WV]/, 'V'],
  [/^Y/, 'J'],
  [/^Z/, 'S'],
  [/DT$/, 'T'],
];
const CODES: Record<string, string> = {};
for (const [code, letters] of ['AEIOUYHW', 'BFPV', 'CGJKQSXZ', 'DT', 'L', 'MN', 'R'].entries())
  for (const letter of letters) CODES[letter] = String(code);

/** Soundex over Latin letters, after the spellings of one sound at the beginning of a word were made one. Empty: not Latin. */
export function soundOf(word: string): string {
  if (!/^[A-Z]+$/.test(word)) return '';
  const spelled = DIGRAPHS.reduce((text, [from, to]) => text.replace(from, to), word);
  let [code, previous] = [spelled[0]!, CODES[spelled[0]!]];
  for (const letter of spelled.slice(1)) {
    if (letter === 'H' || letter === 'W') continue; // they do not part two letters of one sound
    const next = CODES[letter]!;
    if (next !== '0' && next !== previous) code += next;
    previous = next;
  }
  return code.slice(0, 4).padEnd(4, '0');
}

/** One letter more, less, other, or two neighbours changed (Damerau-Levenshtein distance of at most one). */
export function oneSlip(a: string, b: string): boolean {
  let start = 0;
  while (start < a.length && a[start] === b[start]) start++;
  let [endA, endB] = [a.length, b.length];
  while (endA > start && endB > start && a[endA - 1] === b[endB - 1]) [endA, endB] = [endA - 1, endB - 1];
  const [restA, restB] = [a.slice(start, endA), b.slice(start, endB)];
  if (restA.length <= 1 && restB.length <= 1) return true;
  return restA.length === 2 && restB.length === 2 && restA[0] === restB[1] && restA[1] === restB[0];
}
