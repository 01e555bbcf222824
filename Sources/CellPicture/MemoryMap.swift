/// The physical memory map of several cells as a picture.
public enum MemoryMap {}
