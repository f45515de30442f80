import { ulid } from 'ulid';

/** A lane is written for a day; its name says when it was begun, by the clock of whoever writes it. */
const YOUNG_MS = 2 * 24 * 60 * 60 * 1000;

/** No lane that is being written has a smaller name: where many have ended, only the others are asked for (adr/0073). */
export const youngLanes = (): string => ulid(Math.max(0, Date.now() - YOUNG_MS)).slice(0, 10);
