package org.dualpix.demo.core;

import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * JSON, small and bounded.
 *
 * <p>Values are {@code Map<String, Object>} in order, {@code List<Object>}, {@code String}, {@code Long} (whole numbers
 * that fit), {@code Double}, {@code Boolean} and null. Texts are written in ASCII, as Python's {@code json.dumps} does.
 */
public final class Json {
    public static final int MAX_CHARS = 8 << 20;
    private static final int MAX_DEPTH = 64;

    private final String text;
    private int at;

    private Json(String text) {
        this.text = text;
    }

    /**
     * Reads one value that is the whole text.
     *
     * @throws ProtocolException no JSON, NaN or infinity, too long or too deep
     */
    public static Object parse(String text) {
        if (text.length() > MAX_CHARS) {
            throw new ProtocolException("a JSON text of " + text.length() + " characters", "at most " + MAX_CHARS);
        }
        Json reader = new Json(text);
        reader.space();
        Object value = reader.value(0);
        reader.space();
        if (reader.at < text.length()) {
            throw reader.bad("more text");
        }
        return value;
    }

    /**
     * Reads one object.
     *
     * @throws ProtocolException as {@link #parse}, not UTF-8, or another value than an object
     */
    public static Map<String, Object> parseObject(byte[] utf8, String where) {
        try {
            Object value = parse(StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(utf8)).toString());
            if (value instanceof Map<?, ?> map) {
                return checked(map);
            }
        } catch (CharacterCodingException error) {
            throw new ProtocolException(where + " is no UTF-8");
        } catch (ProtocolException error) {
            throw new ProtocolException(where + " is no JSON: " + error.getMessage());
        }
        throw new ProtocolException(where + " is no object");
    }

    /** Builds an object of alternating keys and values. */
    public static Map<String, Object> object(Object... keysAndValues) {
        Map<String, Object> out = new LinkedHashMap<>();
        for (int i = 0; i < keysAndValues.length; i += 2) {
            out.put((String) keysAndValues[i], keysAndValues[i + 1]);
        }
        return out;
    }

    /**
     * Writes a value on one line.
     *
     * @throws IllegalArgumentException NaN, infinity, or no value of JSON
     */
    public static String write(Object value) {
        StringBuilder out = new StringBuilder();
        write(value, out);
        return out.toString();
    }

    @SuppressWarnings("unchecked") // the parser makes keys of texts alone
    static Map<String, Object> checked(Map<?, ?> map) {
        return (Map<String, Object>) map;
    }

    private static void write(Object value, StringBuilder out) {
        if (value == null || value instanceof Boolean || value instanceof Integer || value instanceof Long) {
            out.append(value);
        } else if (value instanceof Number number) {
            double d = number.doubleValue();
            if (Double.isNaN(d) || Double.isInfinite(d)) {
                throw new IllegalArgumentException(d + " is no JSON number");
            }
            out.append(value);
        } else if (value instanceof Map<?, ?> map) {
            String before = "{";
            for (Map.Entry<?, ?> entry : map.entrySet()) {
                out.append(before);
                quote((String) entry.getKey(), out);
                out.append(": ");
                write(entry.getValue(), out);
                before = ", ";
            }
            out.append(map.isEmpty() ? "{}" : "}");
        } else if (value instanceof List<?> list) {
            String before = "[";
            for (Object item : list) {
                out.append(before);
                write(item, out);
                before = ", ";
            }
            out.append(list.isEmpty() ? "[]" : "]");
        } else if (value instanceof String string) {
            quote(string, out);
        } else {
            throw new IllegalArgumentException(value.getClass() + " is no JSON value");
        }
    }

    private static void quote(String string, StringBuilder out) {
        out.append('"');
        for (int i = 0; i < string.length(); i++) {
            char c = string.charAt(i);
            int escape = "\"\\\n\r\t\b\f".indexOf(c);
            if (escape >= 0) {
                out.append('\\').append("\"\\nrtbf".charAt(escape));
            } else if (c < 0x20 || c > 0x7e) {
                String hex = Integer.toHexString(c);
                out.append("\\u").append("0000", 0, 4 - hex.length()).append(hex);
            } else {
                out.append(c);
            }
        }
        out.append('"');
    }

    private Object value(int depth) {
        if (depth > MAX_DEPTH) {
            throw bad("nested too deep");
        }
        char c = peek();
        switch (c) {
            case '{':
                return map(depth);
            case '[':
                return list(depth);
            case '"':
                return string();
            case 't':
                return word("true", Boolean.TRUE);
            case 'f':
                return word("false", Boolean.FALSE);
            case 'n':
                return word("null", null);
            default:
                return number();
        }
    }

    private Map<String, Object> map(int depth) {
        Map<String, Object> out = new LinkedHashMap<>();
        at++;
        space();
        if (take('}')) {
            return out;
        }
        do {
            space();
            if (peek() != '"') {
                throw bad("no key");
            }
            String key = string();
            space();
            need(':');
            space();
            out.put(key, value(depth + 1));
            space();
        } while (take(','));
        need('}');
        return out;
    }

    private List<Object> list(int depth) {
        List<Object> out = new ArrayList<>();
        at++;
        space();
        if (take(']')) {
            return out;
        }
        do {
            space();
            out.add(value(depth + 1));
            space();
        } while (take(','));
        need(']');
        return out;
    }

    private String string() {
        StringBuilder out = new StringBuilder();
        at++;
        while (true) {
            char c = next();
            if (c == '"') {
                return out.toString();
            }
            if (c < 0x20) {
                throw bad("a control character");
            }
            out.append(c == '\\' ? escaped() : c);
        }
    }

    private char escaped() {
        char c = next();
        if (c == 'u') {
            int code = 0;
            for (int i = 0; i < 4; i++) {
                int digit = Character.digit(next(), 16);
                if (digit < 0) {
                    throw bad("no code of a character");
                }
                code = 16 * code + digit;
            }
            return (char) code;
        }
        int escape = "\"\\/nrtbf".indexOf(c);
        if (escape < 0) {
            throw bad("no escape");
        }
        return "\"\\/\n\r\t\b\f".charAt(escape);
    }

    private Object number() {
        int start = at;
        take('-');
        if (!take('0')) {
            digits();
        }
        int end = at;
        if (take('.')) {
            digits();
        }
        if (take('e') || take('E')) {
            if (!take('+')) {
                take('-');
            }
            digits();
        }
        String number = text.substring(start, at);
        if (at == end && number.length() < 19) {
            return Long.valueOf(number);
        }
        if (at == end) {
            try {
                return Long.valueOf(number);
            } catch (NumberFormatException tooLarge) {
                return finite(number);
            }
        }
        return finite(number);
    }

    private Double finite(String number) {
        double value = Double.parseDouble(number);
        if (Double.isInfinite(value)) {
            throw bad("too large a number");
        }
        return value;
    }

    private void digits() {
        int start = at;
        while (at < text.length() && text.charAt(at) >= '0' && text.charAt(at) <= '9') {
            at++;
        }
        if (at == start) {
            throw bad("no value");
        }
    }

    private Object word(String word, Object value) {
        if (!text.startsWith(word, at)) {
            throw bad("no value");
        }
        at += word.length();
        return value;
    }

    private void space() {
        while (at < text.length() && " \t\n\r".indexOf(text.charAt(at)) >= 0) {
            at++;
        }
    }

    private char peek() {
        if (at >= text.length()) {
            throw bad("it ends");
        }
        return text.charAt(at);
    }

    private char next() {
        char c = peek();
        at++;
        return c;
    }

    private boolean take(char c) {
        boolean there = at < text.length() && text.charAt(at) == c;
        at += there ? 1 : 0;
        return there;
    }

    private void need(char c) {
        if (!take(c)) {
            throw bad("no '" + c + "'");
        }
    }

    private ProtocolException bad(String what) {
        return new ProtocolException(what + " at character " + at);
    }
}
