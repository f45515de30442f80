import { ulid } from 'ulid';

/** In a bucket a lane is written for a day; its name says when it was begun, by the clock of whoever writes it. */
const YOUNG_MS = 2 * 24 * 60 * 60 * 1000;

/**
 * Hardly a lane that is being written has a smaller name: one on a file system, whose process has lived for long, or one whose writer's clock
 * was wrong. Where many have ended, only those and younger ones are asked for (adr/0073).
 */
export const youngLanes = (): string => ulid(Math.max(0, Date.now() - YOUNG_MS)).slice(0, 10);
