package org.dualpix.demo.core;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.function.Function;
import java.util.regex.Pattern;

/** Fields of an object that somebody else wrote: every one checked for its type and bounds. */
public final class Fields {
    private static final int MAX_TEXT = 1000;

    private final Map<String, Object> values;
    private final String where;

    public Fields(Map<String, Object> values, String where) {
        this.values = values;
        this.where = where;
    }

    /** Reads an object of UTF-8 JSON. */
    public static Fields parse(byte[] utf8, String where) {
        return new Fields(Json.parseObject(utf8, where), where);
    }

    /** A text of at most 1000 characters, which the pattern matches whole where there is one. */
    public String text(String key, Pattern pattern) {
        boolean right = values.get(key) instanceof String text
                && text.codePointCount(0, text.length()) <= MAX_TEXT
                && (pattern == null || pattern.matcher(text).matches());
        if (!right) {
            throw error(key, "a text" + (pattern == null ? "" : " like " + pattern.pattern()));
        }
        return (String) values.get(key);
    }

    public String text(String key) {
        return text(key, null);
    }

    public String oneOf(String key, String... choices) {
        String value = text(key);
        if (!Arrays.asList(choices).contains(value)) {
            throw error(key, "one of: " + String.join(", ", choices));
        }
        return value;
    }

    /** The constant whose name in small letters the field holds. */
    public <E extends Enum<E>> E oneOf(String key, E[] choices) {
        String value = text(key);
        List<String> words = new ArrayList<>();
        for (E choice : choices) {
            words.add(Messages.word(choice));
            if (Messages.word(choice).equals(value)) {
                return choice;
            }
        }
        throw error(key, "one of: " + String.join(", ", words));
    }

    public long whole(String key, long low, long high) {
        return whole(key, values.get(key), low, high);
    }

    public int count(String key, int low, int high) {
        return (int) whole(key, low, high);
    }

    public double number(String key, double low, double high) {
        return number(key, values.get(key), low, high);
    }

    public List<Double> numbers(String key, int shortest, int longest, double low, double high) {
        List<Double> out = new ArrayList<>();
        for (Object value : list(key, shortest, longest)) {
            out.add(number(key, value, low, high));
        }
        return out;
    }

    public List<Long> wholes(String key, int shortest, int longest, long low, long high) {
        List<Long> out = new ArrayList<>();
        for (Object value : list(key, shortest, longest)) {
            out.add(whole(key, value, low, high));
        }
        return out;
    }

    public List<String> texts(String key, int shortest, int longest) {
        List<String> out = new ArrayList<>();
        for (Object value : list(key, shortest, longest)) {
            if (!(value instanceof String text) || text.length() > MAX_TEXT) {
                throw error(key, "texts");
            }
            out.add(text);
        }
        return out;
    }

    public boolean flag(String key) {
        if (values.get(key) instanceof Boolean flag) {
            return flag;
        }
        throw error(key, "true or false");
    }

    /** What {@code read} makes of the field, or null where it is missing or null. */
    public <T> T optional(String key, Function<String, T> read) {
        return values.get(key) == null ? null : read.apply(key);
    }

    public Fields object(String key) {
        if (values.get(key) instanceof Map<?, ?> map) {
            return new Fields(Json.checked(map), where + ": " + key);
        }
        throw error(key, "an object");
    }

    public List<Fields> objects(String key, int shortest, int longest) {
        List<Fields> out = new ArrayList<>();
        for (Object value : list(key, shortest, longest)) {
            if (!(value instanceof Map<?, ?> map)) {
                throw error(key, "objects");
            }
            out.add(new Fields(Json.checked(map), where + ": " + key + "[" + out.size() + "]"));
        }
        return out;
    }

    /** Whether the object has the field, even as null. */
    public boolean has(String key) {
        return values.containsKey(key);
    }

    ProtocolException error(String key, String expected) {
        String found = "nothing";
        if (values.containsKey(key)) {
            found = Json.write(values.get(key));
            found = found.substring(0, Math.min(found.length(), 80));
        }
        return new ProtocolException(where + ": " + key + " is " + found, expected);
    }

    private List<?> list(String key, int shortest, int longest) {
        if (values.get(key) instanceof List<?> list && list.size() >= shortest && list.size() <= longest) {
            return list;
        }
        throw error(key, "a list of " + shortest + " to " + longest);
    }

    private long whole(String key, Object value, long low, long high) {
        Long found = null;
        if (value instanceof Long whole) {
            found = whole;
        } else if (value instanceof Double d && d == Math.rint(d) && Math.abs(d) < 0x1p63) {
            found = d.longValue(); // in JSON 3.0 is a whole number too
        }
        if (found == null || found < low || found > high) {
            throw error(key, "a whole number from " + low + " to " + high);
        }
        return found;
    }

    private double number(String key, Object value, double low, double high) {
        double found = value instanceof Number number ? number.doubleValue() : Double.NaN;
        if (!(found >= low && found <= high)) {
            throw error(key, "a number from " + low + " to " + high);
        }
        return found;
    }
}
